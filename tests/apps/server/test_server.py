"""The server over loopback: sessions, the websocket, limits, access, and clients that behave badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket as sockets
import struct
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from nldf_engine.apps.origins import is_local
from nldf_engine.apps.server.access import Rate, needs_token
from nldf_engine.apps.server.messages import ENDED, HEADER, SPEAKING, Sound
from nldf_engine.apps.server.sessions import ServerSession, Sessions
from nldf_engine.apps.server.settings import Ice, Limits, Settings, name_avatars
from nldf_engine.apps.server.workers import WorkerProcess
from players import RATE, tone, wav


class Tick:
    """A message of the websocket, taken apart as docs/serve.md says."""

    def __init__(self, data: bytes) -> None:
        (self.kind, self.flags, self.epoch, self.number, self.position, self.queued, self.work, picture,
         sound) = HEADER.unpack_from(data)  # fmt: skip
        assert self.kind == 1 and len(data) == HEADER.size + picture + sound
        self.picture = data[HEADER.size : HEADER.size + picture]
        self.sound = np.frombuffer(data[HEADER.size + picture :], "<i2")


async def ticks(
    socket: aiohttp.ClientWebSocketResponse, count: int
) -> tuple[list[Tick], list[dict[str, Any]]]:
    """The next so many ticks, and the texts that came between."""
    found: list[Tick] = []
    texts: list[dict[str, Any]] = []
    while len(found) < count:
        message = await socket.receive()
        assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
        if message.type == aiohttp.WSMsgType.TEXT:
            texts.append(json.loads(message.data))
        else:
            found.append(Tick(message.data))
    return found, texts


async def until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> tuple[dict[str, Any], list[Tick]]:
    """The next text of a kind, and the ticks before it."""
    found: list[Tick] = []
    while True:
        message = await socket.receive()
        assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
        if message.type == aiohttp.WSMsgType.BINARY:
            found.append(Tick(message.data))
        elif (said := json.loads(message.data))["type"] == kind:
            return said, found


async def problem(answer: aiohttp.ClientResponse, status: int) -> str:
    """The problem that an answer of this status states."""
    assert answer.status == status, await answer.text()
    return str((await answer.json())["problem"])


def test_a_websocket_says_what_is_pushed(server: Any) -> None:
    """Pictures that decode, consecutive ticks, the sound whole, and a report of the utterance's end."""
    import cv2

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.ws_connect("/ws?avatar=bob&rate=16000&in_rate=16000") as socket:
            ready = json.loads((await socket.receive()).data)
            assert ready["type"] == "ready" and ready["session"]["size"] == [24, 24]
            await socket.send_bytes(tone(0.5)[:4001])  # cut within a sample
            await socket.send_bytes(tone(0.5)[4001:])
            await socket.send_str('{"type": "finish"}')
            said, seen = await until(socket, "ended")
            assert said["position"] == pytest.approx(0.5)
            assert [tick.number for tick in seen] == list(range(len(seen)))
            sound = np.concatenate([tick.sound for tick in seen])
            assert np.count_nonzero(np.abs(sound) > 5000) == pytest.approx(8000, abs=80)
            assert any(tick.flags & SPEAKING for tick in seen) and seen[-1].flags & ENDED
            pictures = [tick.picture for tick in seen if tick.picture]
            assert cv2.imdecode(np.frombuffer(pictures[0], np.uint8), 1).shape == (24, 24, 3)

    server.talk(work)


def test_an_interruption_overtakes_everything(server: Any) -> None:
    """Behind the answer no tick of the old epoch comes, and none that is not silent."""

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.ws_connect("/ws?rate=16000&avatar=ada") as socket:
            await socket.send_bytes(tone(5))
            await ticks(socket, 15)
            await socket.send_str('{"type": "interrupt"}')
            said, before = await until(socket, "interrupted")
            assert said["epoch"] == 1 and 4 < said["dropped"] < 5 and said["position"] < 1
            assert all(tick.epoch == 0 or not tick.sound.any() for tick in before)
            after, _ = await ticks(socket, 5)
            assert all(tick.epoch == 1 and not tick.sound.any() and not tick.queued for tick in after)

    server.talk(work)


def test_a_burst_of_a_microphone_is_not_late_for_ever(server: Any) -> None:
    """What came at once is dropped after a second, though never half a second of it waited."""

    async def work(http: aiohttp.ClientSession) -> float:
        async with http.ws_connect("/ws?rate=16000&avatar=ada&microphone=true") as socket:
            for _ in range(20):
                await socket.send_bytes(tone(0.02))
            queued = []
            for _ in range(70):
                queued += [tick.queued for tick in (await ticks(socket, 1))[0]]
                await socket.send_bytes(tone(0.04))
            assert max(queued) > 0.3
            return max(queued[-15:])

    assert server.talk(work) < 0.2


def test_edits_have_a_rate(server: Any) -> None:
    """Of eighty edits in one go 25 are free, and the others follow at four a frame's time."""

    async def work(http: aiohttp.ClientSession) -> float:
        async with http.ws_connect("/ws") as socket:
            await until(socket, "ready")
            began = time.monotonic()
            for yaw in range(80):
                await socket.send_json({"type": "edit", "value": {"head": {"yaw": yaw / 10}}})
            await socket.send_str('{"type": "ping"}')
            await until(socket, "pong")
            return time.monotonic() - began

    assert server.talk(work) > 0.5


def test_http_controls_a_session(server: Any) -> None:
    """A session made by HTTP is attached to, says a file, is changed, interrupted and ended."""

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.post("/sessions", json={"avatar": "ada", "rate": RATE}) as answer:
            assert answer.status == 201
            state = await answer.json()
            path = answer.headers["Location"]
        async with http.ws_connect(f"/ws?session={state['id']}") as socket:
            async with http.post(f"{path}/say", data=wav(0.3, 22_050)) as answer:
                assert answer.status == 202 and (await answer.json())["seconds"] == pytest.approx(
                    0.3, abs=0.01
                )
            assert (await until(socket, "ended"))[0]["position"] == pytest.approx(0.3, abs=0.002)
            for what, value in (
                ("edit", {"head": {"yaw": 3}}),
                ("background", "#102030"),
                ("poses", "still"),
            ):
                async with http.put(f"{path}/{what}", json=value) as answer:
                    assert answer.status == 204, await answer.text()
            async with http.post(f"{path}/interrupt") as answer:
                assert (await answer.json())["epoch"] == 1
            async with http.ws_connect(f"/ws?session={state['id']}") as second:
                raise AssertionError(second)
        async with http.delete(path) as answer:
            assert answer.status == 204
        async with http.get(path) as answer:
            await problem(answer, 404)

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        server.talk(work)
    assert refused.value.status == 409


def test_pictures_can_be_h264(server: Any) -> None:
    """A decoder fed with the packets as they come gives every picture."""
    import av

    async def work(http: aiohttp.ClientSession) -> list[Tick]:
        async with http.ws_connect("/ws?rate=16000&avatar=ada&size=32&video=h264") as socket:
            return (await ticks(socket, 12))[0]

    decoder = av.CodecContext.create("h264", "r")
    packets = [tick.picture for tick in server.talk(work) if tick.picture]
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
    frames += decoder.decode(None)
    assert len(frames) == len(packets) and frames[0].width == 32


def test_sessions_show_their_own_avatar(server: Any) -> None:
    """Two sessions at once: each one's pictures are those of `Engine.render`, and not the other's."""
    import cv2

    from nldf_engine.engine import Engine

    async def work(http: aiohttp.ClientSession) -> list[list[Tick]]:
        async def one(name: str) -> list[Tick]:
            async with http.ws_connect(f"/ws?avatar={name}&rate=16000&size=48&quality=100") as socket:
                await socket.send_str('{"type": "poses", "value": "still"}')
                return (await ticks(socket, 10))[0]

        return await asyncio.gather(one("ada"), one("bob"))

    seen = server.talk(work)
    want = {}
    for name in ("ada", "bob"):
        engine = Engine.load(server.settings.avatars[name], device="cpu")
        want[name] = (
            engine.render((np.zeros(16_000, np.float32), RATE), "still", size=48).frames[20].astype(int)
        )
    apart = np.abs(want["ada"] - want["bob"]).mean()
    for name, shown in zip(("ada", "bob"), seen, strict=True):
        last = cv2.imdecode(np.frombuffer([t.picture for t in shown if t.picture][-1], np.uint8), 1)[
            ..., ::-1
        ]
        assert np.abs(last - want[name]).mean() < 0.35 * apart  # noise as JPEG has it


BAD_EDITS: list[Any] = [
    {"head": {"curve": "/etc/passwd"}}, {"nose": {}}, {"head": {"yaw": "x"}}, {"head": {"yaw": 1e999}}, [],
    {"eyes": {"scale": 99}}, {"mouth": {"sliders": {"jaw": 1}}}, {"look": {"identity": 3}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/sessions", b'{"avatar": "../../etc"}', 404),
        ("POST", "/sessions", b'{"avatar": "/etc/passwd"}', 404),
        ("POST", "/sessions", b'{"avatar": ["ada"]}', 422),
        ("POST", "/sessions", b'{"rate": 16001}', 422),
        ("POST", "/sessions", b'{"size": 100000}', 422),
        ("POST", "/sessions", b'{"video": "gif"}', 422),
        ("POST", "/sessions", b'{"quality": 0}', 422),
        ("POST", "/sessions", b"{", 400),
        ("POST", "/sessions", b"\xff\xfe", 400),
        ("POST", "/sessions", b"[" * 100_000, 400),
        ("POST", "/sessions", b" " * 300_000, 413),
        ("GET", "/sessions/none", b"", 404),
        ("POST", "/whep/ada", b"v=0", 415),
        ("GET", "/static/..%2f..%2fapp.py", b"", 404),
        ("GET", "/static/%2e%2e/app.py", b"", 404),
        ("GET", "/../../etc/passwd", b"", 404),
        ("DELETE", "/health", b"", 405),
        ("GET", "/ws", b"", 426),
    ],
)
def test_bad_requests_get_a_clear_answer(
    server: Any, method: str, path: str, body: bytes, status: int
) -> None:
    """No request is answered with more than a problem's text."""

    async def work(http: aiohttp.ClientSession) -> str:
        async with http.request(method, path, data=body or None) as answer:
            return await problem(answer, status)

    assert server.talk(work)


def floats(value: float) -> bytes:
    """A WAV file of 50 ms whose samples are 32-bit floats of this value."""
    samples = np.full(800, value, "<f4").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 3, 1, 16_000,
                       64_000, 4, 32, b"data", len(samples))  # fmt: skip
    return head + samples


def test_bad_changes_and_sounds_leave_the_session_as_it_was(server: Any) -> None:
    """Each is refused with the reason, by HTTP and by websocket; then a good one is taken."""

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.post("/sessions", json={"avatar": "ada"}) as answer:
            path = answer.headers["Location"]
        for value in BAD_EDITS:
            text = json.dumps(value)
            async with http.put(f"{path}/edit", data=text) as answer:
                assert answer.status in (400, 422), (value, await answer.text())
        for value in ("/etc/passwd", "transparent", 7, "x" * 1000):
            async with http.put(f"{path}/background", json=value) as answer:
                assert "background" in await problem(answer, 422)
        async with http.put(f"{path}/poses", json="/etc/passwd") as answer:
            assert "poses" in await problem(answer, 422)
        for content, status in (
            (b"", 422), (b"RIFF0000WAVE", 422), (os.urandom(5000), 422), (wav(11.0), 413),
            (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", 422), (wav(0.5)[:500], 202),
            (floats(np.nan), 422), (floats(-np.inf), 422), (floats(0.5), 202),
        ):  # fmt: skip
            async with http.post(f"{path}/say", data=content) as answer:
                assert answer.status == status, (content[:20], await answer.text())
        async with http.ws_connect(f"/ws?session={path.rpartition('/')[2]}") as socket:
            for text in (
                "no json",
                "[]",
                '{"type": "format"}',
                '{"type": "edit", "value": {"nose": 1}}',
                "[" * 9999,
            ):
                await socket.send_str(text)
                assert (await until(socket, "error"))[0]["problem"]
            await socket.send_str('{"type": "ping", "echo": 7}')
            assert (await until(socket, "pong"))[0]["echo"] == 7
        async with http.put(f"{path}/edit", json={"head": {"yaw": 2}}) as answer:
            assert answer.status == 204
        async with http.delete(path):
            pass

    server.talk(work)


@pytest.mark.parametrize(
    "query", ["in_rate=7", "in_rate=x", "channels=0", "rate=1", "speed=2", "microphone=9"]
)
def test_a_wrong_query_is_refused_before_the_handshake(server: Any, query: str) -> None:
    """422, and no session is left behind."""
    before = len(server.sessions)

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.ws_connect(f"/ws?{query}"):
            pass

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        server.talk(work)
    assert refused.value.status == 422 and len(server.sessions) == before


def test_too_much_sound_is_refused_and_said(server: Any) -> None:
    """What does not fit is reported; one enormous message ends the connection; tiny ones are all taken."""

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.ws_connect("/ws?rate=16000&avatar=ada") as socket:
            await socket.send_bytes(tone(14))
            said, _ = await until(socket, "full")
            assert said["refused"] == pytest.approx(4, abs=0.3)
            await socket.send_str('{"type": "interrupt"}')
            await until(socket, "interrupted")
            buzz = tone(0.625)
            for first in range(0, len(buzz), 2):
                await socket.send_bytes(buzz[first : first + 2])
            await socket.send_str('{"type": "finish"}')
            assert (await until(socket, "ended"))[0]["position"] == pytest.approx(0.625)
            with contextlib.suppress(ConnectionError):  # it may be cut off before all is sent
                await socket.send_bytes(bytes(19_200_000))  # ten minutes
            while (await socket.receive()).type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                pass
            assert socket.close_code in (1009, 1006)

    server.talk(work)
    wait_for_sessions(server, 0)


def test_a_flood_of_tiny_pieces_leaves_others_their_turn(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two of them the server turns to others, and its worker gets few messages of them."""
    turns, over, pushed, handed = [0], threading.Event(), [], []

    def turn() -> None:
        turns[0] += 1
        if not over.is_set():
            asyncio.get_running_loop().call_soon(turn)

    push, post = ServerSession.push, WorkerProcess.post

    def noted_push(self: Any, *values: Any) -> float:
        pushed.append(turns[0])
        return push(self, *values)

    def noted_post(self: Any, message: Any) -> None:
        handed.extend([message] if isinstance(message, Sound) else [])
        post(self, message)

    monkeypatch.setattr(ServerSession, "push", noted_push)
    monkeypatch.setattr(WorkerProcess, "post", noted_post)

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.ws_connect("/ws?rate=16000&avatar=ada") as socket:
            await asyncio.gather(*(socket.send_bytes(b"\x10\0") for _ in range(3000)))
            await socket.send_str('{"type": "finish"}')
            assert (await until(socket, "ended"))[0]["position"] == pytest.approx(3000 / 16_000)

    server.call(turn)
    try:
        server.talk(work)
    finally:
        over.set()
    assert len(pushed) == 3000 and len(set(pushed)) == 3000
    assert sum(len(message.samples) for message in handed) == 6000 and len(handed) < 1500


def test_a_client_that_goes_while_its_session_begins_is_no_error(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged, and no session stays."""
    begin, begun = Sessions.open, threading.Event()

    async def slow(self: Any, wish: Any) -> Any:
        session = await begin(self, wish)
        await asyncio.sleep(0.3)
        begun.set()
        return session

    monkeypatch.setattr(Sessions, "open", slow)
    with sockets.create_connection(("127.0.0.1", server.port)) as wire:
        wire.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
    assert begun.wait(30)
    wait_for_sessions(server, 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_client_that_reads_nothing_is_cut_off(server: Any) -> None:
    """It holds up nobody, loses frames, and is gone after the time that it had."""

    async def work(http: aiohttp.ClientSession) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
        writer.transport.get_extra_info("socket").setsockopt(1, 8, 2048)  # a small receive buffer
        lines = (
            "GET /ws?avatar=bob&size=64&rate=48000&quality=100 HTTP/1.1",
            *("Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        writer.write("\r\n".join((*lines, "", "")).encode())
        await writer.drain()
        writer.transport.pause_reading()
        async with http.ws_connect("/ws?rate=16000&avatar=ada") as socket:
            begun = time.monotonic()
            while sum(session.attached for session in server.sessions) > 1 or time.monotonic() - begun < 0.5:
                assert time.monotonic() - begun < 25
                await ticks(socket, 1)
        writer.close()

    server.talk(work)
    wait_for_sessions(server, 0)


def wait_for_sessions(server: Any, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(server.sessions) > count:
        assert time.monotonic() < deadline, [session.to_json() for session in server.sessions]
        time.sleep(0.05)


def test_clients_that_vanish_leave_nothing(server: Any) -> None:
    """A torn connection ends its session; the client comes again, and two hundred do not get in."""

    async def work(http: aiohttp.ClientSession) -> list[int]:
        for _ in range(3):
            socket = await http.ws_connect("/ws?rate=16000&avatar=ada")
            await ticks(socket, 1)
            socket._response.connection.transport.abort()

        async def knock() -> int:
            async with http.post("/sessions", json={"avatar": "ada"}) as answer:
                return answer.status

        while len(server.sessions):
            await asyncio.sleep(0.05)
        return list(await asyncio.gather(*(knock() for _ in range(200))))

    statuses = server.talk(work)
    assert statuses.count(201) == 6 and statuses.count(429) == 194
    assert "nldf_sessions 6" in server.talk(lambda http: _text(http, "/metrics"))
    for session in server.sessions:
        server.call(server.sessions.end, session, "the test is over")
    wait_for_sessions(server, 0)


async def _text(http: aiohttp.ClientSession, path: str) -> str:
    async with http.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


def test_metrics_are_prometheus_text(server: Any) -> None:
    """Every line is a comment or a name, labels and a number; each name has its type."""
    import re

    lines = server.talk(lambda http: _text(http, "/metrics")).splitlines()
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    for line in lines:
        if not line.startswith("#"):
            found = re.fullmatch(r'([a-z_]+)(\{[a-z]+="[^"]*"\})? [0-9.e+-]+', line)
            assert found and found[1] in typed, line


def test_the_page_loads_nothing_from_elsewhere(server: Any) -> None:
    """Strict policy, no inline script or style, every part that it names is there, and a sentence to say."""
    import re

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.get("/") as answer:
            page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*src)|<style|style=|\son\w+=|https?://", page)
        parts = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(parts) >= 5
        for part in (*parts, "/static/capture.js"):
            assert part.startswith("/static/")
            text = await _text(http, part)
            assert not re.search(r"https?://(?!www\.w3\.org)|eval\(|innerHTML", text), part
        async with http.get("/static/hello.wav") as answer:
            assert (await answer.read())[:4] == b"RIFF"

    server.talk(work)


def test_origins_and_names_from_elsewhere_are_refused(server: Any) -> None:
    """A page of another origin drives nothing, nor does a name that was made to lead here."""

    async def work(http: aiohttp.ClientSession) -> list[int]:
        statuses = []
        elsewhere = {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}
        for headers in (*elsewhere, {"Origin": server.url}):
            async with http.get("/avatars", headers=headers) as answer:
                statuses.append(answer.status)
            with contextlib.suppress(aiohttp.WSServerHandshakeError):
                async with http.ws_connect("/ws?avatar=ada", headers=headers):
                    statuses.append(101)
        return statuses

    assert server.talk(work) == [403, 403, 403, 200, 101]


def test_requests_that_are_none_leave_nothing_in_the_log(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """400, and no traceback: else anybody could fill the log."""

    async def work(_: aiohttp.ClientSession) -> list[bytes]:
        said = []
        for line in (b"GET * HTTP/1.1", b"GET /" + b"a" * 70_000 + b" HTTP/1.1", b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(line + b"\r\nHost: 127.0.0.1\r\n\r\n")
            said.append(await asyncio.wait_for(reader.read(12), 10))
            writer.close()
        return said

    assert [head[-3:] for head in server.talk(work)] == [b"400"] * 3
    assert "Traceback" not in caplog.text


def test_its_own_description_is_openapi(server: Any) -> None:
    """Every route of the control part is in it, with a schema where it takes a body."""
    made = json.loads(server.talk(lambda http: _text(http, "/openapi.json")))
    assert made["openapi"].startswith("3.1")
    assert {"/sessions", "/sessions/{id}/say", "/sessions/{id}/interrupt", "/sessions/{id}/edit", "/health",
            "/metrics", "/whep/{id}", "/sessions/{id}/offer"} <= set(made["paths"])  # fmt: skip
    edit = made["components"]["schemas"]["edit"]
    assert {"head", "mouth"} <= set(edit["properties"]) and "curve" not in json.dumps(edit)


def test_a_killed_worker_ends_its_sessions_and_is_replaced(server: Any) -> None:
    """kill -9: a clear code for its client, other requests go on, and soon there is another worker."""

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.ws_connect("/ws?rate=16000&avatar=ada") as socket:
            await ticks(socket, 3)
            worker = server.sessions.pool.workers[0]
            os.kill(worker.pid, signal.SIGKILL)
            while (message := await socket.receive()).type in (
                aiohttp.WSMsgType.BINARY,
                aiohttp.WSMsgType.TEXT,
            ):
                pass
            assert message.type == aiohttp.WSMsgType.CLOSE and socket.close_code == 4500
            assert "worker" in str(message.extra)
        async with http.get("/health") as answer:
            assert answer.status == 503
        while server.sessions.pool.restarts < 1:
            await asyncio.sleep(0.1)
        async with http.ws_connect("/ws?rate=16000&avatar=ada") as socket:
            await ticks(socket, 2)

    server.talk(work)


def test_settings_that_do_not_go_together_are_refused(avatars: dict[str, Path]) -> None:
    """Each names its flag."""
    for settings, words in (
        (Settings({}), "AVATAR"),
        (Settings(avatars, host="0.0.0.0"), "--token-file"),
        (Settings(avatars, token="short"), "openssl"),
        (Settings(avatars, ice=Ice((5000, 4000))), "--udp-ports"),
    ):
        with pytest.raises(ValueError, match=words):
            settings.check()
    assert is_local("localhost") and is_local("127.0.0.9") and is_local("::1") and not is_local("0.0.0.0")
    assert list(name_avatars((Path("a/me"), Path("b/me"), Path("you")))) == ["me", "me-2", "you"]


def test_a_token_opens_and_nothing_else_does(avatars: dict[str, Path]) -> None:
    """By header or, for websockets, by URL; compared in constant time; the page itself is open."""
    token = "0123456789abcdef-token"
    settings = Settings(avatars, token=token, host="0.0.0.0").check()
    assert settings.opens(token)
    assert not any(
        settings.opens(wrong) for wrong in (None, "", token[:-1], token + "x", "é" * 20, "\udcff" * 20)
    )
    assert not any(map(needs_token, ("/", "/health", "/static/page.js")))
    assert all(map(needs_token, ("/sessions", "/metrics", "/ws", "/openapi.json", "/healthy", "/static")))
    assert token not in repr(settings)


def test_requests_are_limited_by_address() -> None:
    """A bucket an address, that fills with time; old addresses are forgotten."""
    now = 0.0
    rate = Rate(5, lambda: now)
    assert [rate.takes("a") for _ in range(12)] == [True] * 10 + [False] * 2
    assert rate.takes("b")
    now = 1.0
    assert [rate.takes("a") for _ in range(7)] == [True] * 5 + [False] * 2
    for number in range(5000):
        rate.takes(str(number))
    assert len(rate._buckets) <= 4096


def test_unused_sessions_end(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection for `idle` seconds a session is gone."""

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.post("/sessions", json={"avatar": "ada"}) as answer:
            assert answer.status == 201

    server.talk(work)
    for session in server.sessions:
        session.left = session.touched = time.monotonic() - Limits().idle - 1
    wait_for_sessions(server, 0)
    assert server.sessions.ends["nobody was connected"] >= 1
