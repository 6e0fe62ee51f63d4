"""What of the server may be set, and its limits."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nldf_engine.apps.origins import is_local

TOKEN_CHARACTERS = 16
"""A token has at least so many characters."""
BODY = 32 << 20
"""Bytes of a sound file that is sent at most."""
TEXT = 256 << 10
"""Bytes of JSON or SDP at most."""
MESSAGE = 4 << 20
"""Bytes of a websocket's message at most."""


@dataclass(frozen=True)
class Limits:
    """What clients may take at most.

    Args:
        sessions: that live at the same time.
        idle: seconds after which a session without a connection ends.
        silent: seconds after which a connected session ends that got neither sound nor any other message.
        stall: seconds after which a client that reads nothing is cut off.
        queue: seconds of sound that may wait in a session.
        requests: a second from one address, on the average; twice as many at once.
        size: largest width of the pictures, pixels.
    """

    sessions: int = 8
    idle: float = 30.0
    silent: float = 3600.0
    stall: float = 10.0
    queue: float = 120.0
    requests: float = 50.0
    size: int = 1024


@dataclass(frozen=True)
class Ice:
    """How WebRTC finds its way.

    Args:
        ports: first and last UDP port that is bound; None for any.
        servers: URLs of STUN and TURN servers.
        username, password: for TURN.
        relay: by TURN servers alone, never directly.
    """

    ports: tuple[int, int] | None = None
    servers: tuple[str, ...] = ()
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    relay: bool = False


@dataclass(frozen=True)
class Film:
    """A video that the avatar's head is pasted into (`Engine.live(into=...)`).

    Args:
        video: that the avatar was filmed in.
        dataset: that was prepared from it.
        region: how much of the picture is the avatar's: "head", "face" or "mouth".
    """

    video: Path
    dataset: Path
    region: str = "face"

    def to_json(self) -> dict[str, str]:
        """As a worker is told."""
        return {"video": str(self.video), "dataset": str(self.dataset), "region": self.region}


@dataclass(frozen=True)
class Settings:
    """Everything that `nldf serve` may be told.

    Args:
        avatars: folders by the names that clients use.
        host, port: where it listens.
        token: what clients must show; empty for none, on this machine alone.
        origins: other origins whose pages may connect, as "https://example.org".
        demo: serve the page for newcomers.
        workers: processes that render.
        device, precision: as for `Engine.load`.
        limits, ice: see there.
        tls: files of certificate and key, or None.
        film: what the one avatar's head is pasted into; None for its own pictures.
    """

    avatars: Mapping[str, Path]
    host: str = "127.0.0.1"
    port: int = 8765
    token: str = field(default="", repr=False)
    origins: tuple[str, ...] = ()
    demo: bool = False
    workers: int = 1
    device: str = "auto"
    precision: str = "auto"
    limits: Limits = field(default_factory=Limits)
    ice: Ice = field(default_factory=Ice)
    tls: tuple[Path, Path] | None = None
    film: Film | None = None

    @property
    def local(self) -> bool:
        """Whether it listens on this machine alone."""
        return is_local(self.host)

    def check(self) -> Settings:
        """Itself, where the settings go together.

        Raises:
            ValueError: they do not; the message says which flag.
        """
        if not self.avatars:
            raise ValueError("AVATAR: give at least one avatar's folder, or --demo")
        if self.film is not None and len(self.avatars) > 1:
            raise ValueError("--into: one avatar was filmed in it, and several are served")
        if not self.local and not self.token:
            raise ValueError(
                f"--host {self.host} can be reached from other machines: give --token-file, or set NLDF_TOKEN"
            )
        if self.token and len(self.token) < TOKEN_CHARACTERS:
            raise ValueError(
                f"the token has {len(self.token)} characters, and at least {TOKEN_CHARACTERS} are needed; "
                "make one with: openssl rand -hex 24"
            )
        if self.ice.ports is not None:
            first, last = self.ice.ports
            if not 1024 <= first <= last <= 65_535:
                raise ValueError(f"--udp-ports: expected FIRST-LAST within 1024-65535, got {first}-{last}")
        if self.ice.relay and not any(url.startswith(("turn:", "turns:")) for url in self.ice.servers):
            raise ValueError("--relay needs a TURN server: name one by --ice turn:HOST:PORT")
        return self

    def opens(self, given: str | None) -> bool:
        """Whether a client may come in with this token, in a time that does not depend on it."""
        if not self.token:
            return True
        if given is None:
            return False
        # Bytes of a header that are no UTF-8 come as lone surrogates.
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.token.encode())


def name_avatars(folders: tuple[Path, ...]) -> dict[str, Path]:
    """Folders by their names; of several with one name, the later ones get a number: me, me-2."""
    named: dict[str, Path] = {}
    for folder in folders:
        stem = folder.resolve().name or "avatar"
        name, number = stem, 2
        while name in named:
            name, number = f"{stem}-{number}", number + 1
        named[name] = folder
    return named


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_workers() -> int:
    """One process a core, but at most four: with more cores, each has several threads that draw."""
    return max(1, min(4, cores()))
