"""What comes of the old sentence after an interruption."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from bench.live.client import client, speech, spread
from bench.live.options import Options
from bench.live.server import serving

GATE = 0.040


async def measure(url: str, count: int) -> list[tuple[float, float]]:
    """(last tick of the old epoch, first tick of the new one), seconds from the interruption, of each one."""
    random, sentence, found = np.random.default_rng(1), speech(6.0), []
    async with client(url) as made:
        for _ in range(count):
            await made.push(sentence)
            await asyncio.sleep(0.35 + 0.3 * random.random())
            seen = len(made.ticks)
            began = await made.say(type="interrupt")
            _, text = await made.until("interrupted", began)
            while not (made.ticks and made.ticks[-1].epoch == text["epoch"]):
                await asyncio.sleep(0.002)
            stale = [tick.came - began for tick in made.ticks[seen:] if tick.epoch < text["epoch"]]
            fresh = next(tick.came - began for tick in made.ticks[seen:] if tick.epoch == text["epoch"])
            found.append((max(stale, default=0.0), fresh))
    return found


def interruptions(options: Options) -> dict[str, Any]:
    """Interrupts at random moments, and notes the last tick of the old sentence and the first one at rest."""
    with serving(options.avatars, 1) as server:
        found = asyncio.run(measure(server.url, options.interruptions))
    stale, fresh = ([pair[side] for pair in found] for side in (0, 1))
    return {
        "interruptions": len(found),
        "with a stale tick after 40 ms": sum(late > GATE for late in stale),
        "last stale tick (ms)": spread(stale),
        "first tick at rest (ms)": spread(fresh),
    }
