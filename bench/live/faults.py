"""One fault after the other against a server, and good clients beside it that must not notice."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import io
import json
import multiprocessing
import os
import signal
import sys
import time
import wave
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from bench.command import markdown
from bench.live.attack import ATTACKS, Attack, Attacker
from bench.live.client import CHUNK, RATE, Client, Tick, client, speech
from bench.live.concurrency import BUFFERED, SETTLE
from bench.live.faces import compare
from bench.live.options import Options
from bench.live.server import Server, serving
from nldf_engine.apps.server.socket import DIED
from nldf_engine.base.memory import keep_loaded
from nldf_engine.engine import Engine

STRETCH = 2.5  # seconds before the fault, and of it; one that takes longer is waited for
LONGEST = 16.0
GAP = 0.2  # seconds between two ticks that a good client would notice; so far ahead it sends its sound
MORE_LATE = 1.0  # percentage points of late ticks
BUSY = 20.0  # percent of late ticks before the fault
ROOM = 4  # sessions that are left for others
IDLE = 2.0  # seconds after which what an attacker leaves behind ends
REST = 30.0  # seconds that the server has to be as before
TRIES = 2
MOST = 180.0  # seconds after which none is tried again
NICE = 5  # how far attackers stand back: what is measured is the server, and not how cores are shared
EQUAL = 2  # grey levels


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of samples [n, channels], int16 or float32."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(samples.itemsize)
        file.setframerate(rate)
        file.writeframes(np.ascontiguousarray(samples).tobytes())
    content = bytearray(made.getvalue())
    content[20] = 3 if samples.dtype == np.float32 else 1  # the format: floats, or whole numbers
    return bytes(content)


async def sound_that_stops(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Stops in the middle of a sentence, goes on, and goes away without an end."""
    sound = speech(1.2).astype("<i2").tobytes()
    async with http.ws_connect("/ws") as ws:
        for piece in (sound[:19_200], sound[19_200:]):
            await ws.send_bytes(piece)
            await asyncio.sleep(1.2)


async def bursts(a: Attacker, http: aiohttp.ClientSession) -> None:
    """A microphone's sound, a second of it at once, and late."""
    sound = speech(1.0).astype("<i2").tobytes()
    async with http.ws_connect("/ws?microphone=true") as ws:
        for _ in range(4):
            for first in range(0, len(sound), 2 * CHUNK):
                await ws.send_bytes(sound[first : first + 2 * CHUNK])
            await asyncio.sleep(0.5)


async def no_numbers(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Sound and edits of NaN and infinity, and sound of no samples."""
    path = await a.session(http)
    for value in (np.nan, np.inf, -np.inf, 1e38):
        sound = np.full((800, 1), value, np.float32)
        await a.request(http, "POST", f"{path}/say", data=wav(sound, 16_000))
    await a.request(http, "POST", f"{path}/say", data=wav(np.zeros((0, 1), np.int16), 16_000))
    for text in ("NaN", "Infinity", '{"head":{"yaw":NaN}}', '{"head":{"yaw":1e999}}'):
        await a.request(http, "PUT", f"{path}/edit", data=text)
    await a.request(http, "DELETE", path)
    async with http.ws_connect("/ws") as ws:
        await ws.send_bytes(b"")
        await ws.send_str('{"type":"edit","value":{"head":{"yaw":NaN}}}')


async def wrong_rates(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Rates and channels that are none, that change, and that are not those of what is sent."""
    for query in (
        "in_rate=7",
        "in_rate=x",
        "channels=0",
        "channels=99",
        "rate=1",
        "rate=44100.5",
        "in_codec=mp3",
    ):
        with contextlib.suppress(aiohttp.WSServerHandshakeError):
            await http.ws_connect(f"/ws?{query}")
    async with http.ws_connect("/ws?in_rate=44100&channels=7") as ws:
        for count in (1, 13, 999, 4001):
            await ws.send_bytes(a.noise(count + 1))
    path = await a.session(http)
    for rate, channels in ((1, 1), (8000, 2), (192_000, 8), (44_100, 3)):
        sound = (1000 * a.random.standard_normal((rate // 10, channels))).astype(np.int16)
        await a.request(http, "POST", f"{path}/say", data=wav(sound, rate))
    await a.request(http, "DELETE", path)


async def tiny_chunks(a: Attacker, http: aiohttp.ClientSession) -> None:
    """10,000 chunks of one sample."""
    async with http.ws_connect("/ws") as ws:
        for _ in range(10_000):
            await ws.send_bytes(b"\x10\0")
        await ws.send_str('{"type":"finish"}')


async def ten_minutes(a: Attacker, http: aiohttp.ClientSession) -> None:
    """One chunk of ten minutes, by websocket and as a file, and one of a minute that is taken."""
    sound = np.zeros((600 * RATE, 1), np.int16)
    path = await a.session(http)
    await a.request(http, "POST", f"{path}/say", data=wav(sound, RATE))
    await a.request(http, "POST", f"{path}/say", data=wav(sound[: 60 * RATE], RATE))
    await a.request(http, "DELETE", path)
    async with http.ws_connect("/ws") as ws:
        await ws.send_bytes(sound.tobytes())


async def reconnect(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Comes and goes, to a session of its own and to one that stays."""
    path = await a.session(http)
    for _ in range(10):
        for query in ("", f"session={path.rpartition('/')[2]}"):
            ws = await http.ws_connect(f"/ws?{query}")
            assert ws._writer.transport is not None
            ws._writer.transport.abort()
            with contextlib.suppress(aiohttp.WSServerHandshakeError):
                await http.ws_connect(f"/ws?{query}")
    await a.request(http, "DELETE", path)


async def two_hundred(a: Attacker, http: aiohttp.ClientSession) -> None:
    """200 clients at once, and each that got in speaks."""
    sound = speech(1.0).astype("<i2").tobytes()

    async def one() -> None:
        with contextlib.suppress(aiohttp.WSServerHandshakeError):
            async with http.ws_connect("/ws") as ws:
                await ws.send_bytes(sound)
                await asyncio.sleep(1)

    await asyncio.gather(*(one() for _ in range(200)))


async def paths(a: Attacker, http: aiohttp.ClientSession) -> None:
    """Names of avatars, sessions and files that lead elsewhere."""
    for name in (
        "../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "C:\\x",
        ".",
        "\0",
        "a" * 5000,
    ):
        await a.request(http, "POST", "/sessions", json={"avatar": name})
        for path in ("/sessions/", "/whep/", "/static/", "/ws?avatar=", "/ws?session="):
            with contextlib.suppress(ValueError):  # no URL at all
                await a.request(http, "GET", path + name)
    path = await a.session(http)
    for what in ("background", "poses", "edit"):
        await a.request(http, "PUT", f"{path}/{what}", json="/etc/passwd")
    await a.request(http, "DELETE", path)


async def worker_killed(a: Attacker, http: aiohttp.ClientSession) -> None:
    """kill -9 of a worker that has two sessions; another one is started."""
    workers = Server(a.url, a.pid).workers
    sockets = [await http.ws_connect("/ws") for _ in workers]
    os.kill(workers[0], signal.SIGKILL)
    await asyncio.sleep(STRETCH)
    for ws in sockets:
        await ws.close()


FAULTS: dict[str, Attack] = {
    **{work.__name__: work for work in (
        sound_that_stops, bursts, no_numbers, wrong_rates, tiny_chunks, ten_minutes, reconnect, two_hundred,
        paths,
    )},
    **ATTACKS,
    worker_killed.__name__: worker_killed,
}  # fmt: skip
"""The attacks by name, in the order of the rows."""


def strike(url: str, pid: int, name: str, seconds: float) -> tuple[dict[str, int], list[str]]:
    """What the server said to one attack, again and again for so many seconds, and what it should not have.

    For a process of its own, so that good clients need not wait for the attacker; it lets them go first.
    """
    attacker = Attacker(url, np.random.default_rng(0), pid)

    async def work() -> None:
        until, left = time.monotonic() + seconds, LONGEST
        async with attacker.connected() as http:
            while left > 0:
                await attacker.attempt(FAULTS[name], http, left)
                left = until - time.monotonic()

    asyncio.run(work())
    return dict(attacker.said), attacker.failures


@dataclass(frozen=True)
class Stretch:
    """What one good client saw between two moments.

    Args:
        ticks: of these that came.
        late: percent of them that had no picture, or came too late for a player that waits BUFFERED.
        gap: seconds, the longest without a tick.
        silence: seconds of its sound that were missing.
    """

    ticks: int
    late: float
    gap: float
    silence: float


def seen(ticks: list[Tick], begun: float, ended: float) -> Stretch:
    """What the ticks of one session say of the time from `begun` to `ended`, by time.perf_counter.

    A tick is as late as it comes after the earliest one's place on a clock of 25 a second; one that never
    came is late. All the time the client speaks.
    """
    here = [tick for tick in ticks if begun <= tick.came < ended]
    if not here:
        return Stretch(0, 100.0, ended - begun, ended - begun)
    before = next((tick for tick in reversed(ticks) if tick.came < begun), here[0])
    edges = [begun, *(tick.came for tick in here), ended]
    earliest = min(tick.came - tick.number / 25 for tick in ticks)
    numbers = here[-1].number - before.number
    good = sum(bool(tick.picture) and tick.came - tick.number / 25 - earliest <= BUFFERED for tick in here)
    silence = numbers / 25 - (here[-1].position - before.position)
    count = max(len(here), numbers)
    return Stretch(len(here), 100 * (1 - good / count), float(np.diff(edges).max()), max(0.0, silence))


def worst(stretches: list[Stretch]) -> Stretch:
    """Of several clients the worst of everything."""
    return Stretch(
        min(item.ticks for item in stretches), max(item.late for item in stretches),
        max(item.gap for item in stretches), max(item.silence for item in stretches),
    )  # fmt: skip


def undisturbed(before: Stretch, under: Stretch) -> bool | None:
    """Whether nobody would notice: no longer gaps, no more late ticks, no more silence than before.

    None where it can't be told, as other programs left no time for the good clients before already.

    Gaps up to GAP and MORE_LATE percent of late ticks, or one tick, do not count; where other programs make
    larger gaps, those of before are what is compared.
    """
    if before.late > BUSY:
        return None
    allowed = max(MORE_LATE, 101 / max(1, under.ticks))
    return (
        under.gap <= max(GAP, before.gap)
        and under.late <= before.late + allowed
        and under.silence <= before.silence + 1 / 25
    )


@functools.cache
def _spoken() -> np.ndarray:
    return speech(SETTLE + STRETCH + LONGEST + 5)


@contextlib.asynccontextmanager
async def good(url: str) -> AsyncIterator[Client]:
    """A client that speaks all the time, its sound GAP seconds ahead."""
    async with client(url, keep=True, video="raw") as made:
        sound, ahead = _spoken(), round(GAP * RATE)

        async def speak() -> None:
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await made.push(sound[:ahead])
                await made.speak(sound[ahead:])

        speaking = asyncio.create_task(speak())
        try:
            yield made
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)


def wrong(ticks: list[Tick], engine: Engine) -> int:
    """How many pictures are not those of `Engine.render` of the sound that came with them."""
    whole = next((at for at, tick in enumerate(ticks) if tick.number != at), len(ticks))
    return sum(apart > EQUAL for apart in compare(ticks[:whole], engine, None))


class Table:
    """The rows of one server.

    Args:
        server: of some workers.
        workers: how many.
        pool: a process that attacks.
        engine: of the avatar that the good clients see.
        seconds: of each stretch.
    """

    def __init__(
        self,
        server: Server,
        workers: int,
        pool: ProcessPoolExecutor,
        engine: Engine,
        seconds: float = STRETCH,
    ) -> None:
        self._server, self._workers, self._pool, self._engine = server, workers, pool, engine
        self._seconds = seconds

    async def row(self, name: str) -> dict[str, Any]:
        """One fault: a stretch without it, one with it, and what good clients saw, one for each worker."""
        loop, server = asyncio.get_running_loop(), self._server
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(good(server.url)) for _ in range(self._workers)]
            await asyncio.sleep(SETTLE)
            begun = time.perf_counter()
            await asyncio.sleep(self._seconds)
            at = time.perf_counter()
            said, failures = await loop.run_in_executor(
                self._pool, strike, server.url, server.pid, name, self._seconds
            )
            ended = time.perf_counter()
        killed = [made for made in clients if made.socket.close_code == DIED]
        if len(killed) != (FAULTS[name] is worker_killed):
            failures.append(f"the workers of {len(killed)} good clients died")
            killed = []
        # What came before stands on another clock where the first picture took a second (`LiveSession.take`).
        lived = [
            [tick for tick in made.ticks if tick.came >= begun] for made in clients if made not in killed
        ]
        before, under = (
            worst([seen(ticks, *times) for ticks in lived]) for times in ((begun, at), (at, ended))
        )
        pictures = sum(wrong(made.ticks, self._engine) for made in clients)
        if not await self.rested():
            failures.append("sessions or workers were not as before")
        texts = sorted(f"{key} ({count})" for key, count in said.items() if key != "ready")
        return {
            "the server said": ", ".join(texts) or "nothing",
            "late before (%)": before.late,
            "late (%)": under.late,
            "longest gap before (s)": before.gap,
            "longest gap (s)": under.gap,
            "silence (s)": under.silence,
            "wrong pictures": pictures,
            "undisturbed": undisturbed(before, under) if not (pictures or failures) else False,
            **({"failures": failures[:3]} if failures else {}),
        }

    async def rested(self) -> bool:
        """Waits until the server has no session and all its workers; whether it came to that."""
        until = time.monotonic() + REST
        async with aiohttp.ClientSession(self._server.url) as http:
            while time.monotonic() < until:
                async with http.get("/health") as answer:
                    state = json.loads(await answer.read())
                if not state["sessions"] and state["workers"] == self._workers:
                    return True
                await asyncio.sleep(0.1)
        return False


def measure(
    options: Options, names: Iterable[str], seconds: float = STRETCH, tries: int = TRIES
) -> dict[str, dict[str, Any]]:
    """Rows of these faults; one that disturbed is tried again, as other programs disturb as well."""
    rows, engine = {}, Engine.load(options.avatars[0])
    until = time.monotonic() + MOST
    flags = ("--sessions", str(options.workers + ROOM), "--idle", str(IDLE))
    spawn = multiprocessing.get_context("spawn")
    with (
        serving(options.avatars[:1], options.workers, *flags) as server,
        ProcessPoolExecutor(1, spawn, os.nice, (NICE,)) as pool,
    ):
        pool.submit(importlib.import_module, "aiortc").exception()  # it has started, and need not later
        _spoken()
        keep_loaded()
        table = Table(server, options.workers, pool, engine, seconds)
        for name in names:
            for tried in range(tries):
                rows[name] = {**asyncio.run(table.row(name)), "tries": tried + 1}
                print(name, rows[name], file=sys.stderr, flush=True)
                if rows[name]["undisturbed"] or time.monotonic() > until:
                    break
    return rows


def faults(options: Options) -> dict[str, Any]:
    """Each bad input alone: what the server said to it, and whether the other clients were undisturbed."""
    rows = measure(options, FAULTS)
    print(markdown(rows), flush=True)
    return rows
