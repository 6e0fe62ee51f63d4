"""How many sessions at once keep 25 frames a second, and what each takes."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from bench.live.client import RATE, Tick, client, speech
from bench.live.options import Options
from bench.live.server import Server, busy, memory, serving

LATE, BUFFERED = 0.040, 0.100
"""Seconds after which a tick is late, and is late for a player that waits as long as the page's does."""
SETTLE = 1.0  # seconds that do not count


def late(ticks: list[Tick]) -> tuple[list[float], int]:
    """(lateness in seconds, how many had no picture) of the ticks of one session.

    A tick is as late as it comes after the earliest one's place on a clock of 25 a second.
    """
    counted = [tick for tick in ticks if tick.number >= SETTLE * 25]
    offsets = np.array([tick.came - tick.number / 25 for tick in counted])
    return list(offsets - offsets.min()), sum(not tick.picture for tick in counted)


async def measure(url: str, sessions: int, seconds: float) -> list[list[Tick]]:
    """The ticks of so many sessions that all speak."""

    async def one(number: int) -> list[Tick]:
        await asyncio.sleep(0.013 * number)
        async with client(url) as made:
            sound = speech(seconds, number)
            await asyncio.gather(made.speak(sound[: round(seconds * RATE)]), asyncio.sleep(seconds))
        return made.ticks

    return list(await asyncio.gather(*(one(number) for number in range(sessions))))


def row(server: Server, sessions: int, seconds: float, idle: list[float]) -> dict[str, Any]:
    """A row of the table: so many sessions."""
    pids = [server.pid, *server.workers]
    before = sum(map(busy, pids))
    every = asyncio.run(measure(server.url, sessions, seconds))
    computed = sum(map(busy, pids)) - before
    lateness, missing, count = [], 0, 0
    for ticks in every:
        found, without = late(ticks)
        lateness += found
        missing += without
        count += len(found)
    own = sum(memory(pid)["own"] for pid in server.workers) - sum(idle)

    def share(number: int) -> float:
        return 100 * number / max(1, count)

    bad, worse = (sum(value > bound for value in lateness) for bound in (LATE, BUFFERED))
    return {
        "late or without picture (%)": share(max(bad, missing)),
        "late (%)": share(bad),
        "late for a player that waits 100 ms (%)": share(worse),
        "without picture (%)": share(missing),
        "lateness p95 (ms)": 1000 * float(np.percentile(lateness, 95)),
        "work p50 (ms)": 1000 * float(np.median([tick.work for ticks in every for tick in ticks])),
        "cores a session": computed / seconds / sessions,
        "MB a session": own / sessions,
    }


def concurrency(options: Options) -> dict[str, Any]:
    """More and more sessions that all speak at the pace of speech, each measured for some seconds."""
    with serving(options.avatars, options.workers, *options.flags) as server:
        idle = [memory(pid) for pid in server.workers]
        table = {
            f"{sessions} sessions": row(server, sessions, options.seconds, [item["own"] for item in idle])
            for sessions in range(1, options.most + 1)
        }
        return {**table, "worker without a session (MB)": idle[0]}
