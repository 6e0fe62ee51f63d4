"""What happened in a live session so far: counts, and percentiles of the last frames' times."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

REMEMBERED = 1000
"""Frames over which percentiles are taken: the last forty seconds."""


def percentiles(values: Iterable[float]) -> dict[str, float | None]:
    """The values' median and 95th percentile, {"p50": ..., "p95": ...}; None of no values."""
    known = np.fromiter(values, np.float64)
    if not len(known):
        return {"p50": None, "p95": None}
    return {name: float(np.percentile(known, share)) for name, share in (("p50", 50), ("p95", 95))}


@dataclass
class Counters:
    """Counts of one session since it began.

    Args:
        frames: that were given out.
        late: of these, were ready more than a frame's time after they were due.
        skipped: of these, have sound and no picture: rendering was too far behind.
        stalls: how often frames were not fetched for so long that the clock was moved.
        underflows: how often the sound ran out in the middle of an utterance.
        interruptions: how often it was interrupted.
        dropped_seconds: of sound that interruptions dropped.
        refused_seconds: of sound that did not fit in the queue.
        latencies: seconds from the arrival of the newest sound that a frame depends on to that frame.
        works: seconds that each frame took to make.
    """

    frames: int = 0
    late: int = 0
    skipped: int = 0
    stalls: int = 0
    underflows: int = 0
    interruptions: int = 0
    dropped_seconds: float = 0.0
    refused_seconds: float = 0.0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    works: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **amounts: float) -> None:
        """Adds to counts, by their names; from any thread."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)

    def to_json(self) -> dict[str, Any]:
        """The counts, and `latency` and `work` as percentiles in seconds."""
        with self._lock:
            counts = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
            latency, work = percentiles(tuple(self.latencies)), percentiles(tuple(self.works))
        return {**counts, "latency": latency, "work": work}
