"""Turns: as many at once as were saved up, then by the rate."""

from __future__ import annotations

import asyncio

import pytest

from nldf_engine.apps.server.pace import Pace


class Clock:
    """A clock that only waiting moves on, so that a busy machine changes nothing."""

    def __init__(self) -> None:
        self.now = 100.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(asyncio, "sleep", made.sleep)
    return made


async def _taken(pace: Pace, clock: Clock, turns: int) -> float:
    asyncio.get_running_loop().time = lambda: clock.now  # type: ignore[method-assign]
    began = clock.now
    for _ in range(turns):
        await pace.turn()
    return clock.now - began


def test_turns_beyond_the_burst_come_by_the_rate(clock: Clock) -> None:
    """Ten at once are free; thirty more at a hundred a second take .3 s."""
    assert asyncio.run(_taken(Pace(1000.0, 500), clock, 500)) == pytest.approx(0, abs=1e-9)
    assert asyncio.run(_taken(Pace(100.0, 10), clock, 40)) == pytest.approx(0.3)


def test_what_was_not_used_is_saved_up_to_the_burst(clock: Clock) -> None:
    """After a pause a burst is free again, and no more than that."""
    pace = Pace(50.0, 5)

    async def take() -> tuple[float, float]:
        await _taken(pace, clock, 5)
        clock.now += 0.3  # fifteen turns' time
        return await _taken(pace, clock, 5), await _taken(pace, clock, 1)

    assert asyncio.run(take()) == pytest.approx((0, 0.02))


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
