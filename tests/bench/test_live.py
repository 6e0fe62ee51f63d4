"""What `bench.live` makes of ticks: latencies, lateness, lags and faces of which the answer is known."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest

if importlib.util.find_spec("aiohttp") is None:
    pytest.skip("aiohttp is not installed: pip install '.[serve]'", allow_module_level=True)

from bench.live.client import Client, Tick, spread
from bench.live.concurrency import late
from bench.live.end_to_end import lag_of
from bench.live.latency import beyond
from bench.live.server import memory, own_memory


def tick(number: int, came: float, position: float = 0.0, picture: bytes = b"x") -> Tick:
    return Tick(came, 1, 0, number, position, 0.01, picture, b"")


def test_latency_counts_from_the_newest_sound_that_a_picture_needs() -> None:
    """Sound pushed every 20 ms, ticks 30 ms after what they look ahead to: 30 ms, give or take a message."""
    ahead = 0.2
    made = Client(None, pushed=[(320 * k, 0.02 * k) for k in range(1, 200)])  # type: ignore[arg-type]
    made.ticks = [tick(k, k / 25 + ahead + 0.03, k / 25) for k in range(1, 80)]
    found = beyond(made, ahead)
    assert min(found) >= 0.01 and max(found) <= 0.0301 and spread(found)["p95"] == pytest.approx(30, abs=0.1)


def test_late_ticks_are_counted_against_the_clock() -> None:
    """One of a hundred 90 ms late, one without a picture."""
    ticks = [tick(k, k / 25 + 5) for k in range(125)]
    ticks[60] = tick(60, 60 / 25 + 5.09)
    ticks[70] = tick(70, 70 / 25 + 5, picture=b"")
    lateness, missing = late(ticks)
    assert len(lateness) == 100 and missing == 1
    assert sorted(lateness)[-2:] == pytest.approx([0, 0.09], abs=1e-6)


@pytest.mark.parametrize("shift", [-0.12, 0.0, 0.08])
def test_lips_that_come_late_are_found(shift: float) -> None:
    """A mouth that follows the level of the sound with a known delay."""
    times = np.arange(0, 20, 0.04)

    def level(at: np.ndarray) -> np.ndarray:
        return np.clip(np.sin(1.9 * at) * np.sin(5.3 * at + 1), 0, None)

    mouths = 100 * level(times - shift)[:, None] * np.array([[1.0, 0.0, 0.5]])
    lag, correlation = lag_of(np.stack([times, level(times)], 1), times, mouths)
    assert lag == pytest.approx(shift, abs=0.03) and correlation > 0.6


def test_memory_is_read() -> None:
    """A process has some, and its share is no more than what is resident."""
    found = memory(os.getpid())
    assert 0 < found["own"] <= found["resident"] and 0 < found["share"] <= found["resident"]
    assert own_memory() > 10
