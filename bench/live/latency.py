"""From a sound that is pushed to the picture that it moves, beyond what the lips look ahead."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from bench.live.client import RATE, Client, client, speech, spread
from bench.live.options import Options
from bench.live.server import serving


def beyond(made: Client, ahead: float) -> list[float]:
    """Seconds from the push of the newest sample that each speaking tick depends on to its arrival.

    A tick that ends at the second p of the utterance depends on what was pushed up to p + `ahead`.
    """
    sent = np.array([count for count, _ in made.pushed])
    times = np.array([at for _, at in made.pushed])
    found = []
    for tick in made.ticks:
        needed = round((tick.position + ahead) * RATE)
        if tick.speaking and tick.picture and needed <= sent[-1]:
            found.append(tick.came - times[np.searchsorted(sent, needed)])
    return found


async def measure(url: str, seconds: float) -> tuple[list[float], float, list[float], dict[str, Any]]:
    """(latencies, the look-ahead, the server's time for each tick, its counters) of one session."""
    async with client(url) as made:
        ahead = (await made.until("ready"))[1]["session"]["latency"]
        await asyncio.sleep(0.5)
        await made.speak(speech(seconds))
        _, said = await made.until("pong", await made.say(type="ping"))
    counters = said["session"]["counters"]
    return beyond(made, ahead), ahead, [tick.work for tick in made.ticks], counters


def latency(options: Options) -> dict[str, Any]:
    """Pushes speech at its own pace, 20 ms a message, and notes when the pictures come."""
    with serving(options.avatars, 1, *options.flags) as server:
        found, ahead, works, counters = asyncio.run(measure(server.url, options.seconds))
    return {
        "beyond the look-ahead (ms)": spread(found), "look-ahead (ms)": 1000 * ahead, "pictures": len(found),
        "rendering and encoding (ms)": spread(works), "gaps in the sound": counters["underflows"],
        "sound waits at least (ms)": 1000 * counters["lead"],
    }  # fmt: skip
