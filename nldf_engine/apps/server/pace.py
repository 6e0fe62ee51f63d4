"""How often something may happen: who asks more often waits, and with it what comes behind it."""

from __future__ import annotations

import asyncio


class Pace:
    """A rate that is kept on the average, with so many turns at once as were saved up.

    Args:
        rate: turns a second.
        burst: turns that may follow each other without a wait, 1 or more.
    """

    def __init__(self, rate: float, burst: int = 1) -> None:
        self._step, self._room = 1 / rate, (burst - 1) / rate
        self._next = 0.0

    async def turn(self) -> None:
        """Returns when it is this caller's turn; others run in between in any case."""
        now = asyncio.get_running_loop().time()
        begins = max(now - self._room, self._next)
        self._next = begins + self._step
        await asyncio.sleep(max(0.0, begins - now))
