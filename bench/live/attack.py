"""Hostile clients against a server of two workers, and one good client that must not notice."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import json
import os
import signal
import socket as sockets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import aiohttp
import numpy as np

from bench.live.client import client, speech
from bench.live.options import Options
from bench.live.server import Server, memory, serving

HANDS = 6  # attacks at the same time
KILLED_EVERY = 75.0  # seconds between two kills of a worker
GAP = 1.0  # seconds without a tick that the good client would notice
ASKED_EVERY = 0.5  # seconds between two looks at /health
LISTENS = 0.3  # seconds for which an attacker hears what the server says before it leaves
LONGEST = 30.0  # seconds that one attack may take
NEVER = 13.5  # seconds without reading: more than the server waits for
Random = np.random.Generator


class Heard(aiohttp.ClientWebSocketResponse):
    """A websocket of which is counted what the server says.

    Args:
        said: where texts count by their types, and closings by their codes.
        values, more: as aiohttp has them.
    """

    def __init__(self, said: collections.Counter[str], *values: Any, **more: Any) -> None:
        super().__init__(*values, **more)
        self._said: collections.Counter[str] | None = said

    async def hear(self, seconds: float) -> None:
        """Reads what comes, until the server has closed, or for so many seconds and then no more."""
        try:
            await asyncio.wait_for(self._hear(), seconds)
        except (asyncio.TimeoutError, ConnectionError):
            self._said = None  # whatever code aiohttp now notes, the server did not say it

    async def _hear(self) -> None:
        async for message in self:
            if message.type == aiohttp.WSMsgType.TEXT and self._said is not None:
                self._said[json.loads(message.data)["type"]] += 1

    async def close(self, **given: Any) -> bool:
        """As of any websocket, but hears first what is on its way."""
        if self._said is not None and self.close_code is None:
            await self.hear(LISTENS)
        said, self._said = self._said, None  # aiohttp closes once more where the server has
        if said is not None and self.close_code not in (None, aiohttp.WSCloseCode.OK):
            said[str(self.close_code)] += 1
        return await super().close(**given)


class Attacker:
    """Everything that one hostile client may try.

    Args:
        url: of the server.
        random: what chooses.
        pid: of the server, for who kills its workers.

    Attributes:
        counts: how often each attack was made.
        said: statuses of HTTP, codes that closed websockets and types of texts, how often each came.
        failures: answers that no request should get.
    """

    def __init__(self, url: str, random: Random, pid: int = 0) -> None:
        self.url, self.random, self.pid = url, random, pid
        self.counts: collections.Counter[str] = collections.Counter()
        self.said: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client of which every answer is counted."""

        async def answered(_: Any, __: Any, request: aiohttp.TraceRequestEndParams) -> None:
            self.said[str(request.response.status)] += 1

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(answered)
        async with aiohttp.ClientSession(
            self.url, timeout=aiohttp.ClientTimeout(20), trace_configs=[trace],
            connector=aiohttp.TCPConnector(limit=0),
            ws_response_class=functools.partial(Heard, self.said),  # type: ignore[arg-type]
        ) as http:  # fmt: skip
            yield http

    async def run(self, until: float) -> None:
        """One attack after the other."""
        names = list(ATTACKS)
        async with self.connected() as http:
            while time.monotonic() < until:
                name = names[int(self.random.integers(len(names)))]
                self.counts[name] += 1
                await self.attempt(ATTACKS[name], http)

    async def attempt(self, work: Attack, http: aiohttp.ClientSession, seconds: float = LONGEST) -> None:
        """One attack, which may take so long."""
        # That the server hangs up on such clients is what is wanted.
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, asyncio.TimeoutError, OSError):
            await asyncio.wait_for(work(self, http), seconds)

    async def request(self, http: aiohttp.ClientSession, method: str, path: str, **more: Any) -> Any:
        """Sends; the JSON that came, if any."""
        async with http.request(method, path, **more) as answer:
            body = await answer.read()
            if answer.status >= 500 and answer.status != 503:
                self.failures.append(f"{method} {path}: {answer.status} {body[:100]!r}")
            return json.loads(body) if answer.content_type == "application/json" and body else None

    async def session(self, http: aiohttp.ClientSession, **wish: Any) -> str:
        """The path of a new session; any path where there is no room."""
        made = await self.request(http, "POST", "/sessions", json=wish)
        return f"/sessions/{(made or {}).get('id', 'none')}"

    def noise(self, most: int) -> bytes:
        """Random bytes."""
        return os.urandom(int(self.random.integers(most)))

    def flipped(self, content: bytes, bits: int = 8) -> bytes:
        """The content with some bits the other way round."""
        made = bytearray(content)
        for _ in range(min(bits, 8 * len(made))):
            made[int(self.random.integers(len(made)))] ^= 1 << int(self.random.integers(8))
        return bytes(made)


Attack: TypeAlias = Callable[[Attacker, aiohttp.ClientSession], Awaitable[None]]


async def garbage_by_websocket(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Texts and sounds that are none, of all lengths."""
    texts = [
        '{"type":"edit","value":' + "[" * 20_000,
        "{}",
        "null",
        '{"type":"interrupt"',
        '{"type":"ping","echo":1e999}',
        '{"type":"edit","value":{"head":{"yaw":1e308}}}',
        '{"type":"background","value":"/etc/passwd"}',
        '{"type":"poses","value":["/etc/passwd"]}',
        '{"type":"finish"}' * 2,
        "\0" * 1000,
    ]
    async with http.ws_connect(f"/ws?channels={a.random.integers(1, 9)}&in_rate=8000") as ws:
        for _ in range(40):
            if a.random.random() < 0.5:
                await ws.send_str(texts[int(a.random.integers(len(texts)))])
            else:
                await ws.send_bytes(a.noise(5000))


async def garbage_as_opus(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Packets that are none, at any time stamp."""
    async with http.ws_connect("/ws?in_codec=opus&sound=opus&rate=24000") as ws:
        for _ in range(200):
            await ws.send_bytes(a.noise(400))


async def too_large(a: Attacker, http: aiohttp.ClientSession) -> None:
    """A message and a body of more than is taken."""
    async with http.ws_connect("/ws") as ws:
        await ws.send_bytes(bytes((4 << 20) + 1))
        await ws.receive(5)
    await a.request(http, "POST", f"{await a.session(http)}/say", data=bytes(33 << 20))


async def vanish(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Connections that are cut in the middle."""
    for _ in range(5):
        ws = await http.ws_connect("/ws?video=h264")
        await ws.send_bytes(a.noise(100_000))
        transport = ws._writer.transport
        assert transport is not None
        transport.abort()


async def _upgraded(a: Attacker, query: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare connection that has become a websocket."""
    host, port = urlsplit(a.url).hostname, urlsplit(a.url).port
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 17)
    lines = (
        f"GET /ws?{query} HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", "",
    )  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    return reader, writer


def close_code(content: bytes) -> int | None:
    """The code that closes a websocket, in what came of it with its handshake; None for none."""
    at = content.find(b"\r\n\r\n") + 4
    while at + 4 <= len(content):
        kind, length = content[at], content[at + 1]
        head = {126: 4, 127: 10}.get(length, 2)
        if kind == 0x88:
            return int.from_bytes(content[at + 2 : at + 4], "big")
        at += head + (length if head == 2 else int.from_bytes(content[at + 2 : at + head], "big"))
    return None


async def _hear_out(
    a: Attacker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float
) -> None:
    """Counts the status of a bare connection's answer, and the code that closes it as a websocket."""
    content = bytearray()

    async def read() -> None:
        while piece := await reader.read(1 << 16):
            content.extend(piece)

    with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
        await asyncio.wait_for(read(), seconds)
    writer.close()
    said = bytes(content)
    status = said[9:12].decode("ascii", "replace") if said.startswith(b"HTTP/1.") else ""
    if status:
        a.said[status] += 1
    if (code := close_code(said)) is not None:
        a.said[str(code)] += 1
    if status.startswith("5") and status != "503":
        a.failures.append(repr(said[:60]))


async def never_read(a: Attacker, http: aiohttp.ClientSession) -> None:
    """A client that reads nothing for longer than it may; then it looks what came."""
    reader, writer = await _upgraded(a, "video=raw&rate=48000")
    wire = writer.get_extra_info("socket")
    wire.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)  # the system does not read for it either
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(NEVER)
    reader._transport.resume_reading()  # type: ignore[attr-defined]
    await _hear_out(a, reader, writer, 1.0)


async def raw_requests(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Requests that are none: half ones, contradictory lengths, endless headers, two in one."""
    host, port = urlsplit(a.url).hostname, urlsplit(a.url).port
    head = f"Host: {host}:{port}\r\n"
    requests = [
        b"GET / HTTP/1.1\r\nHost: 127", b"\x16\x03\x01" + os.urandom(200), os.urandom(3000),
        f"POST /sessions HTTP/1.1\r\n{head}Content-Length: -5\r\n\r\n".encode(),
        f"POST /sessions HTTP/1.1\r\n{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        f"GET /avatars HTTP/1.1\r\n{head}\r\n".encode(),
        f"POST /sessions HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".encode(),
        f"GET /{'a' * 70_000} HTTP/1.1\r\n{head}\r\n".encode(),
        f"GET / HTTP/1.1\r\n{head}X: {'y' * 70_000}\r\n\r\n".encode(),
        f"GET /static/..%2f..%2fpage.py HTTP/1.1\r\n{head}\r\n".encode(),
        f"GET /static/%00 HTTP/1.1\r\n{head}\r\n".encode(), f"GET * HTTP/1.1\r\n{head}\r\n".encode(),
        f"GET /ws HTTP/1.1\r\n{head}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n".encode(),
    ]  # fmt: skip
    for content in requests:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(content)
        await _hear_out(a, reader, writer, LISTENS)


FRAMES = (
    b"\xf2\x85\0\0\0\0hello", b"\x82\x05hello", b"\x82\xff\x7f" + b"\xff" * 7 + b"\0\0\0\0",
    b"\x81\x84\0\0\0\0\xff\xfe\xfd\xfc", b"\x88\x83\0\0\0\0\x03\xe7x", b"\x8f\x80\0\0\0\0",
)  # fmt: skip


async def frames_that_are_none(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Websocket frames with reserved bits, without a mask, of a length that never comes."""
    for frame in (*FRAMES, os.urandom(64)):
        reader, writer = await _upgraded(a)
        await asyncio.sleep(0.1)
        writer.write(frame)
        await _hear_out(a, reader, writer, LISTENS)


def _evil_files(a: Attacker) -> list[bytes]:
    riff = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0"
    return [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a" + a.noise(500), b"fLaC" + a.noise(3000),
        riff + b"\x01\0\x01\0\0\0\x02\0\0\0\x02\0\x10\0data\xff\xff\xff\xff" + a.noise(2000),
        riff + b"\xff\xff\x80\xbb\0\0\0\xee\x02\0\x04\0\x10\0data\0\x10\0\0" + a.noise(5000),
        riff + b"\x00\0\x00\0\0\0\0\0\0\0\0\0\x10\0data\0\x10\0\0", b"OggS" + a.noise(3000),
        b"\0\0\0\x20ftypisom" + a.noise(4000), b"ID3" + a.noise(3000), a.noise(20_000),
    ]  # fmt: skip


async def evil_files(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Sound files that name other files, promise gigabytes, or are none."""
    path = await a.session(http)
    for content in _evil_files(a):
        await a.request(http, "POST", f"{path}/say", data=content)
    await a.request(http, "DELETE", path)


async def edits(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Edits, backgrounds and poses of all kinds, by HTTP."""
    path = await a.session(http, size=32)
    values: list[Any] = [
        {"head": {"yaw": 1e308}},
        {"head": {"yaw": "NaN"}},
        {"mouth": {"gain": -1}},
        {"mouth": {"curve": "/etc/passwd"}},
        {"look": {"relight": "x" * 10_000}},
        {"eyes": {"scale": 9**99}},
        {"__class__": {}},
        [[[[]]]],
        None,
        1e999,
        "x" * 200_000,
        {"mouth": {"sliders": {f"code{10**k}": 1.0 for k in range(50)}}},
    ]
    for value in values:
        for what in ("edit", "background", "poses"):
            await a.request(http, "PUT", f"{path}/{what}", data=json.dumps(value))
    await a.request(http, "DELETE", path)


async def _offer() -> str:
    import aiortc

    connection = aiortc.RTCPeerConnection()
    for kind in ("video", "audio"):
        connection.addTransceiver(kind, direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    sdp = str(connection.localDescription.sdp)
    await connection.close()
    return sdp


async def offers(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Real offers, and ones with flipped bits, a thousand candidates, odd addresses; nobody comes then."""
    sdp, name = await _offer(), next(iter(await a.request(http, "GET", "/avatars")))
    many = "".join(
        f"a=candidate:{k} 1 udp 2130706431 10.{k % 256}.0.1 {k + 1} typ host\r\n" for k in range(1000)
    )
    strange = "".join(
        f"a=candidate:9 1 udp 1 {address} 22 typ host\r\n"
        for address in ("999.1.1.1", "fe80::1%lo", "x.local", "localhost", "0.0.0.0", "255.255.255.255", "")
    )
    headers = {"Content-Type": "application/sdp"}
    for text in (sdp.encode(), a.flipped(sdp.encode()), a.flipped(sdp.encode(), 60), (sdp + many).encode(),
                 (sdp + strange).encode(), sdp.encode() * 5, sdp[: len(sdp) // 2].encode()):  # fmt: skip
        await a.request(http, "POST", f"/whep/{name}", data=text, headers=headers)


async def floods(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Thousands of tiny sounds, interruptions, edits and pings in one go."""
    texts = ['{"type":"interrupt"}', '{"type":"ping"}', '{"type":"edit","value":{"head":{"yaw":3}}}']
    async with http.ws_connect("/ws?size=32") as ws:
        for number in range(3000):
            await ws.send_bytes(b"\x10\0")
            if number % 10 == 0:
                await ws.send_str(texts[number // 10 % 3])


async def crowd(a: Attacker, http: aiohttp.ClientSession) -> None:
    """More sessions than there is room for, and two connections for one session."""
    paths = [await a.session(http, size=16) for _ in range(20)]
    for path in paths:
        with contextlib.suppress(aiohttp.WSServerHandshakeError):
            async with (
                http.ws_connect(f"/ws?session={path.rpartition('/')[2]}"),
                http.ws_connect(f"/ws?session={path.rpartition('/')[2]}"),
            ):
                pass
        await a.request(http, "DELETE", path)


ATTACKS: dict[str, Attack] = {
    work.__name__: work for work in (
        garbage_by_websocket, garbage_as_opus, too_large, vanish, never_read, raw_requests,
        frames_that_are_none, evil_files, edits, offers, floods, crowd,
    )
}  # fmt: skip


class Good:
    """A client that speaks all the time; where its worker is killed, it comes again.

    Attributes:
        ticks, gaps: how many came, and how often nothing came for GAP seconds.
        refused: how often there was no room for it; ended: how often its worker was killed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.ticks = self.gaps = self.refused = self.ended = 0

    async def run(self, until: float) -> None:
        """Talks, a minute at a time."""
        while time.monotonic() < until:
            try:
                await asyncio.wait_for(self._talk(until), 60)
            except asyncio.TimeoutError:  # it comes again, as people do
                continue
            except (aiohttp.ClientError, ConnectionError, OSError):
                self.refused += 1
                await asyncio.sleep(0.1)

    async def _talk(self, until: float) -> None:
        sentence = speech(8.0)
        async with client(self.url) as made:
            last = time.perf_counter()
            while time.monotonic() < until and not made.socket.closed:
                if len(made.ticks) % 200 == 0:
                    await made.push(sentence)
                seen = len(made.ticks)
                await asyncio.sleep(0.02)
                now = time.perf_counter()
                if len(made.ticks) > seen:
                    self.ticks += len(made.ticks) - seen
                    last = now
                elif now - last > GAP:
                    self.gaps += 1
                    last = now
            self.ended += made.socket.close_code == 4500


async def measure(server: Server, minutes: float) -> dict[str, Any]:
    """Attacks for so long, and what became of server and good client."""
    until = time.monotonic() + 60 * minutes
    attackers = [Attacker(server.url, np.random.default_rng(seed)) for seed in range(HANDS)]
    good, slow, killed = Good(server.url), [0.0], 0
    begun = memory(server.pid)["own"]

    async def ask() -> None:
        async with aiohttp.ClientSession(server.url) as http:
            while time.monotonic() < until:
                at = time.perf_counter()
                async with http.get("/health") as answer:
                    await answer.read()
                slow.append(time.perf_counter() - at)
                await asyncio.sleep(ASKED_EVERY)

    tasks = [asyncio.create_task(work) for work in (
        good.run(until), ask(), *(attacker.run(until) for attacker in attackers))]  # fmt: skip
    while time.monotonic() < until:
        await asyncio.sleep(min(KILLED_EVERY, max(0.1, until - time.monotonic())))
        if time.monotonic() < until and server.workers:
            os.kill(server.workers[killed % len(server.workers)], signal.SIGKILL)
            killed += 1
    done = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [text for attacker in attackers for text in attacker.failures]
    failures += [f"{type(item).__name__}: {item}" for item in done if isinstance(item, Exception)]
    counts: collections.Counter[str] = sum((a.counts for a in attackers), collections.Counter())
    said: collections.Counter[str] = sum((a.said for a in attackers), collections.Counter())
    await asyncio.sleep(35)  # sessions that nobody is connected to end
    async with aiohttp.ClientSession(server.url) as http, http.get("/health") as answer:
        health = await answer.json()
    return {
        "minutes": minutes,
        "attacks": dict(counts),
        "answers": dict(sorted(said.items())),
        "failures": len(failures),
        "first failures": failures[:5],
        "workers killed": killed,
        "answers of /health (ms)": {"p50": 1000 * float(np.median(slow)), "largest": 1000 * max(slow)},
        "good client": {
            "ticks": good.ticks,
            "gaps over 1 s": good.gaps,
            "its worker was killed": good.ended,
            "no room for it": good.refused,
        },
        "at the end": health,
        "server's memory, before and after (MB)": f"{begun:.0f}, {memory(server.pid)['own']:.0f}",
    }


def attack(options: Options) -> dict[str, Any]:
    """Hostile clients of twelve kinds against two workers, one of which is killed now and then."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with serving(options.avatars, 2, "--sessions", "12", log=log) as server:
            found = asyncio.run(measure(server, options.minutes))
            print(found, file=sys.stderr, flush=True)
            ended = time.monotonic()
        found["it ended after SIGTERM within (s)"] = time.monotonic() - ended
        lines = log.read_text(errors="replace").splitlines()
    raised = [line for line in lines if line.startswith("Traceback")]
    return {**found, "tracebacks in the log": len(raised), "last of the log": lines[-12:] if raised else []}
