"""Draws in the background: small pictures while something moves, a full one when it is still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")
P = TypeVar("P")

STILL_AFTER = 0.25  # seconds without a change until the full picture is drawn
GOAL = 1 / 15  # seconds that a picture may take while something moves
SMALLEST = 96  # pixels


class Pace:
    """Which width is drawn while something moves: the largest that keeps to GOAL.

    Args:
        full: the width when nothing moves, pixels.
        goal: seconds a picture.
    """

    def __init__(self, full: int, goal: float = GOAL) -> None:
        self._goal = goal
        steps = {full, *(max(1, round(full * share)) for share in (0.75, 0.5, 0.375, 0.25))}
        self.widths = tuple(sorted(width for width in steps if width >= min(full, SMALLEST)))
        self._place = len(self.widths) // 2

    @property
    def width(self) -> int:
        """The width now."""
        return self.widths[self._place]

    def took(self, seconds: float) -> None:
        """Counts a picture of `width`; the next one may be smaller or larger."""
        if seconds > self._goal and self._place > 0:
            self._place -= 1
        elif self._place + 1 < len(self.widths):
            growth = (self.widths[self._place + 1] / self.widths[self._place]) ** 2
            self._place += seconds * growth < 0.8 * self._goal


class Artist(Generic[S, P]):
    """A thread that draws the newest state; states that were overtaken are left out.

    Args:
        draw: makes the picture of a state at a width, None for the full one.
        show: takes each picture, and whether it is the full one.
        complain: takes what went wrong with a state; the thread goes on.
        pace: of the widths.
        moving: the state to draw next where something moves by itself (a time line that plays), else None.
    """

    def __init__(
        self, draw: Callable[[S, int | None], P], show: Callable[[P, bool], None],
        complain: Callable[[Exception], None], pace: Pace, moving: Callable[[], S | None],
    ) -> None:  # fmt: skip
        self._draw, self._show, self._complain = draw, show, complain
        self._moving, self.pace = moving, pace
        self._state: S | None = None
        self._changed, self._done = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="viewer artist", daemon=True)

    def start(self) -> None:
        """Begins to draw."""
        self._thread.start()

    def change(self, state: S) -> None:
        """Draws this state next; any thread may call it."""
        self._state = state
        self._changed.set()

    def stop(self, wait: float = 5.0) -> None:
        """Ends the thread behind the picture that it draws, and waits for it so many seconds."""
        self._done = True
        self._changed.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(wait)

    def _work(self) -> None:
        full = True  # whether what is shown is the full picture of the newest state
        while not self._done:
            state = self._moving()
            if state is None:
                changed = self._changed.wait(None if full else STILL_AFTER)
                self._changed.clear()
                if self._done:
                    return
                if not changed:
                    full = True
                    self._one(self._state, None)
                    continue
                state = self._state
            full = False
            self._one(state, self.pace.width)

    def _one(self, state: S | None, width: int | None) -> None:
        if state is None:
            return
        start = time.perf_counter()
        try:
            picture = self._draw(state, width)
            if width is not None:
                self.pace.took(time.perf_counter() - start)
            if not self._done:
                self._show(picture, width is None)
        except Exception as error:  # whatever a state leads to: the browser is to hear of it, and to go on
            self._complain(error)
