"""What docs/serve.md says of nginx, systemd and TURN, with the programs themselves where they are there."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import aiortc
import pytest

from nldf_engine.apps.server.settings import Ice, Limits, Settings
from players import receive, wav

TEXT = (Path(__file__).parents[3] / "docs" / "serve.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The block of that language in the page."""
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.S)
    assert found is not None
    return found[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """A program that listens on a TCP port of this machine, until the block is left."""
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < end and process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


async def watch_whep(http: aiohttp.ClientSession, **more: Any) -> aiortc.RTCPeerConnection:
    """Plays an avatar by WHEP until a sound came; the connection, still open."""
    connection = aiortc.RTCPeerConnection(**more)
    for kind in ("video", "audio"):
        connection.addTransceiver(kind, direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    headers = {"Content-Type": "application/sdp"}
    async with http.post("/whep/ada", data=connection.localDescription.sdp, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        sdp, session = await answer.text(), answer.headers["Nldf-Session"]
    await connection.setRemoteDescription(aiortc.RTCSessionDescription(sdp, "answer"))
    async with http.post(f"/sessions/{session}/say", data=wav(4.0)) as answer:
        assert answer.status == 202
    pictures, _ = await receive(connection)
    assert pictures
    return connection


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_the_page_websocket_and_whep_go_through_nginx(server: Any, tmp_path: Path) -> None:
    """By the configuration of the page, but for the port."""
    port = free_port()
    location = block("nginx").replace("127.0.0.1:8765", f"127.0.0.1:{server.port}")
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in (
        "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
    user = "user root;" if os.getuid() == 0 else ""  # else it could not enter our folder
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; {user}\nevents {{}}\n"
        f"http {{ access_log off;\n{folders}server {{ listen 127.0.0.1:{port};\n{location}}} }}\n"
    )
    command = ["nginx", "-e", "stderr", "-p", str(tmp_path), "-c", str(configuration)]

    async def work(_: aiohttp.ClientSession) -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            async with http.get("/") as answer:
                assert answer.status == 200
            origin = f"http://127.0.0.1:{port}"
            async with http.ws_connect("/ws?avatar=ada&rate=16000", origin=origin) as ws:
                await ws.send_bytes(b"\0\1" * 8000)
                await ws.send_str('{"type": "finish"}')
                while "ended" not in str(message := (await ws.receive()).data)[:20]:
                    assert message is not None, "it was closed"
            await (await watch_whep(http)).close()
            async with http.post("/sessions", data=b"x" * (33 << 20)) as answer:
                assert answer.status == 413

    with running(command, port, tmp_path / "log"):
        server.talk(work)


@pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn is not installed")
def test_pictures_and_sound_go_through_a_turn_server(
    avatars: dict[str, Path], serving: Any, tmp_path: Path
) -> None:
    """Both sides by relays alone: no packet can go past the TURN server."""
    port = free_port()
    command = [
        "turnserver", "-n", "--no-tls", "--no-dtls", "--no-cli", "-L", "127.0.0.1", "-p", str(port),
        "--min-port", "42100", "--max-port", "42140", "-a", "-u", "nldf:secret", "-r", "nldf",
        "--allow-loopback-peers", "--pidfile", str(tmp_path / "pid"), "--log-file", "stdout",
    ]  # fmt: skip
    url = f"turn:127.0.0.1:{port}"
    ice = Ice(None, (url,), "nldf", "secret", relay=True)
    settings = Settings({"ada": avatars["ada"]}, device="cpu", limits=Limits(requests=1000), ice=ice)
    theirs = aiortc.RTCConfiguration(
        [aiortc.RTCIceServer(url, "nldf", "secret")], aiortc.RTCIceTransportPolicy.RELAY
    )

    async def work(http: aiohttp.ClientSession) -> None:
        connection = await watch_whep(http, configuration=theirs)
        for description in (connection.localDescription, connection.remoteDescription):
            candidates = [line for line in description.sdp.splitlines() if line.startswith("a=candidate")]
            assert candidates and all(" typ relay" in line for line in candidates)
        await connection.close()

    with running(command, port, tmp_path / "log"), serving(settings) as server:
        server.talk(work)


def test_relays_alone_need_a_turn_server() -> None:
    """Said before anything is served."""
    settings = Settings({"ada": Path("ada")}, ice=Ice(relay=True))
    with pytest.raises(ValueError, match="--relay"):
        settings.check()
    dataclasses.replace(settings, ice=Ice(None, ("turn:127.0.0.1:1",), relay=True)).check()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_systemd_unit_is_one(tmp_path: Path) -> None:
    """systemd-analyze finds nothing to say of it, but for what it starts, which is not here."""
    unit = tmp_path / "nldf.service"
    unit.write_text(block("ini").replace("/opt/nldf/bin/nldf", shutil.which("true") or ""))
    made = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert made.returncode == 0 and "nldf.service" not in made.stderr, made.stderr
