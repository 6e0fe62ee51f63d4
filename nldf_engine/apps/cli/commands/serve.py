"""`nldf serve`: avatars that a browser, a phone call or a program can talk to."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional

from nldf_engine.apps.cli.command import (
    Command,
    Device,
    Json,
    UsageError,
    check_device,
    checking_flags,
    optional,
    positive,
    save_results,
    value,
)


@dataclass(frozen=True)
class Serve(Command):
    """Serve avatars live: sound in, pictures and sound out.

    By websocket, WebRTC and HTTP; docs/serve.md has the protocol. Without --host only this machine can
    connect. Ctrl-C or SIGTERM ends it.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf serve --demo",
        "nldf serve avatars/me",
        "nldf serve avatars/me avatars/you --workers 4 --sessions 12",
        "nldf serve avatars/me --into speaker.mp4 --poses data/speaker",
        "nldf serve avatars/me --host 0.0.0.0 --token-file token --tls-cert c.pem --tls-key k.pem",
        "nldf serve avatars/me --udp-ports 40000-40100 --ice stun:stun.example.org:3478",
    )

    when_stopped: ClassVar[str] = "the server has ended, and its sessions with it"
    reads: ClassVar[tuple[str, ...]] = ("avatars", "into", "poses", "token_file", "tls_cert", "tls_key")

    avatars: Annotated[tuple[Path, ...], Positional, value("AVATAR")] = ()
    """folders written by nldf train; clients name them by the folders' names"""
    into: Annotated[Path | None, optional("VIDEO")] = None
    """paste the head into the frames of the video that the avatar was filmed in, at their own size"""
    poses: Annotated[Path | None, optional("DATASET")] = None
    """with --into: the dataset that was prepared from the video"""
    region: Annotated[Literal["head", "face", "mouth"] | None, optional("head|face|mouth")] = None
    """with --into: how much of the picture is the avatar's (face)"""
    demo: bool = False
    """also serve a page to try it with, at /, and the bundled avatar where no other is given"""
    host: Annotated[str, value("HOST")] = "127.0.0.1"
    """address to listen on; other machines can reach any but 127.0.0.1, and need the token"""
    port: Annotated[int, value("N")] = 8765
    """TCP port to listen on"""
    token_file: Annotated[Path | None, optional("FILE")] = None
    """holds the token that clients must show; so does the environment variable NLDF_TOKEN"""
    origin: Annotated[str, optional("URL,...")] = ""
    """pages of these origins may connect as well, as https://example.org"""
    tls_cert: Annotated[Path | None, optional("FILE.pem")] = None
    """certificate for https and wss, followed by those above it"""
    tls_key: Annotated[Path | None, optional("FILE.pem")] = None
    """its private key"""
    workers: Annotated[int | None, optional("N")] = None
    """processes that render; by default one a core, at most four"""
    sessions: Annotated[int, value("N")] = 8
    """sessions at the same time"""
    queue: Annotated[float, value("S")] = 120.0
    """seconds of sound that may wait in a session"""
    idle: Annotated[float, value("S")] = 30.0
    """seconds after which a session without a connection ends"""
    silent: Annotated[float, value("S")] = 3600.0
    """seconds after which a connected session ends to which nothing was sent"""
    rate: Annotated[float, value("N")] = 50.0
    """requests a second that one address may make"""
    largest: Annotated[int, value("N")] = 1024
    """largest width that a client may choose for its pictures, in pixels"""
    udp_ports: Annotated[str | None, optional("FIRST-LAST")] = None
    """UDP ports of WebRTC, for a firewall; by default any"""
    ice: Annotated[str, optional("URL,...")] = ""
    """STUN and TURN servers, as stun:HOST:PORT or turn:HOST:PORT"""
    turn_user: Annotated[str | None, optional("NAME")] = None
    """user of the TURN server; its password is the environment variable NLDF_TURN_PASSWORD"""
    relay: bool = False
    """WebRTC by TURN servers alone, never directly"""
    device: Device = "auto"
    """where to render"""
    precision: Annotated[str, value("auto|fp32|int16|int8|fp16")] = "auto"
    """how to compute; see Engine.load"""
    json: Json = None
    """also write there, at the end, how many sessions and frames there were"""

    def run(self) -> int:
        """Serves until a signal ends it."""
        positive(
            port=self.port, workers=self.workers, sessions=self.sessions, queue=self.queue, idle=self.idle,
            silent=self.silent, rate=self.rate, largest=self.largest,
        )  # fmt: skip
        check_device(self.device)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("--tls-cert and --tls-key go together")
        if (self.into is None) != (self.poses is None):
            raise UsageError("--into VIDEO and --poses DATASET, which was prepared from it, go together")
        if self.region is not None and self.into is None:
            raise UsageError("--region is for --into VIDEO")
        from nldf_engine.apps.cli.bundled import bundled_avatar
        from nldf_engine.base.errors import MissingBackend

        try:
            import aiohttp  # noqa: F401
        except ImportError as error:
            raise MissingBackend(
                "aiohttp, which serves, is not installed", "pip install 'nldf_engine[serve]'"
            ) from error
        from nldf_engine.apps.server.app import serve
        from nldf_engine.apps.server.settings import Film, Ice, Limits, Settings, name_avatars, usual_workers

        folders = self.avatars or ((bundled_avatar(),) if self.demo else ())
        tls = None if self.tls_cert is None or self.tls_key is None else (self.tls_cert, self.tls_key)
        with checking_flags():
            settings = Settings(
                name_avatars(folders), self.host, self.port, self._token(), _list(self.origin), self.demo,
                self.workers or usual_workers(), self.device, self.precision,
                Limits(
                    self.sessions, self.idle, self.silent, queue=self.queue, requests=self.rate,
                    size=self.largest,
                ),
                Ice(
                    self._ports(), _list(self.ice), self.turn_user, os.environ.get("NLDF_TURN_PASSWORD"),
                    self.relay,
                ),
                tls,
                None if self.into is None or self.poses is None
                else Film(self.into, self.poses, self.region or "face"),
            ).check()  # fmt: skip

        def ready(url: str) -> None:
            page = f"; open {url}/" if self.demo else ""
            print(f"nldf serve: {', '.join(settings.avatars)} at {url}, {settings.workers} workers{page}",
                  flush=True)  # fmt: skip

        save_results(self.json, serve(settings, ready))
        return 0

    def _token(self) -> str:
        if self.token_file is None:
            return os.environ.get("NLDF_TOKEN", "").strip()
        from nldf_engine.base.errors import FileProblem

        try:
            return self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise FileProblem(
                self.token_file, f"it can't be read ({error})", "put the token into it"
            ) from error

    def _ports(self) -> tuple[int, int] | None:
        if self.udp_ports is None:
            return None
        found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", self.udp_ports)
        if found is None:
            raise UsageError(f"--udp-ports is FIRST-LAST, as 40000-40100; it is {self.udp_ports!r}")
        return int(found[1]), int(found[2])


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
