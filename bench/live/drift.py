"""Half an hour in simulated time: where sound and picture are on the clock, and what memory does."""

from __future__ import annotations

import numpy as np

from bench.live.client import RATE, speech
from bench.live.options import Options
from bench.live.server import own_memory
from nldf_engine.engine import Engine

EVERY = 10.0  # seconds between two sentences, each with a click at its beginning
CLICK = 8


def drift(options: Options) -> dict[str, float]:
    """Sentences and interruptions on a clock that is pushed; no frame waits for the real one.

    A click that was pushed at the second t must be in the sound of the tick whose time is t + latency; the
    picture of a tick has its number, so both are on one clock or the click is not there.
    """
    now = 0.0
    live = Engine.load(options.avatars[0]).live(rate=RATE, size=options.size, clock=lambda: now)
    sentence = speech(4.0).astype(np.float32) / 40_000
    sentence[:CLICK] = 1.0
    errors, memories, random = [], [], np.random.default_rng(1)
    ticks = round(options.minutes * 60 * 25)
    begun = 0.0
    for number in range(ticks):
        now = number / 25
        if number % round(EVERY * 25) == 0:
            live.push((sentence, RATE))
            live.finish()
            begun = now
        elif number % round(EVERY * 25) == 60 and random.random() < 0.3:
            live.interrupt()
        frame = live.take()
        if frame is None or frame.number != number:
            raise RuntimeError(f"tick {number} is missing")
        if frame.sound.max() > 0.99:
            place = frame.time + int(np.argmax(frame.sound > 0.99)) / RATE
            errors.append(place - (begun + live.latency))
        if number % 1500 == 0:
            memories.append(own_memory())
    half = memories[len(memories) // 2 :]
    slope = float(np.polyfit(np.arange(len(half)), half, 1)[0]) if len(half) > 1 else 0.0
    return {
        "minutes": options.minutes, "ticks": ticks, "clicks": len(errors),
        "clicks that are missing": ticks // round(EVERY * 25) - len(errors),
        "largest error (ms)": 1000 * float(np.abs(errors).max()),
        "drift from the first to the last (ms)": 1000 * abs(errors[-1] - errors[0]),
        "MB": memories[-1], "MB an hour, over the second half": 60 * slope,
    }  # fmt: skip
