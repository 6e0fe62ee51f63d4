"""Turns: as many at once as were saved up, then by the rate."""

from __future__ import annotations

import asyncio
import time

from nldf_engine.apps.server.pace import Pace


def _seconds(pace: Pace, turns: int) -> float:
    async def take() -> float:
        began = time.monotonic()
        for _ in range(turns):
            await pace.turn()
        return time.monotonic() - began

    return asyncio.run(take())


def test_turns_beyond_the_burst_come_by_the_rate() -> None:
    """Ten at once are free; thirty more at a hundred a second take .3 s."""
    assert _seconds(Pace(1000.0, 500), 500) < 0.4
    assert 0.29 < _seconds(Pace(100.0, 10), 40) < 1.0


def test_what_was_not_used_is_saved_up_to_the_burst() -> None:
    """After a pause a burst is free again, and no more than that."""
    pace = Pace(50.0, 5)

    async def take() -> tuple[float, float]:
        for _ in range(5):
            await pace.turn()
        await asyncio.sleep(0.3)  # fifteen turns' time
        began = time.monotonic()
        for _ in range(5):
            await pace.turn()
        free = time.monotonic() - began
        await pace.turn()
        return free, time.monotonic() - began

    free, with_one_more = asyncio.run(take())
    assert free < 0.015 <= with_one_more


def test_others_run_between_any_two_turns() -> None:
    """Also where nobody has to wait."""
    seen: list[str] = []

    async def many() -> None:
        pace = Pace(1000.0, 100)
        for _ in range(3):
            await pace.turn()
            seen.append("many")

    async def other() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append("other")

    async def both() -> None:
        await asyncio.gather(many(), other())

    asyncio.run(both())
    assert seen[:4].count("other") == 2
