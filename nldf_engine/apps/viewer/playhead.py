"""Which frame is shown now: a clock that plays, pauses and is moved."""

from __future__ import annotations

import time
from collections.abc import Callable

from nldf_engine.base.clock import FPS


class Playhead:
    """The time line of a take of some frames, 25 a second.

    Args:
        frames: how many there are, at least 1.
        now: a clock in seconds.
    """

    def __init__(self, frames: int, now: Callable[[], float] = time.monotonic) -> None:
        self._frames, self._now = frames, now
        self._place, self._since = 0.0, None  # type: float, float | None

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return self._frames

    @property
    def playing(self) -> bool:
        """Whether it moves by itself; it stops at the last frame."""
        if self._since is not None and self._at() >= self._frames - 1:
            self.pause()
        return self._since is not None

    @property
    def frame(self) -> int:
        """The frame that is shown now."""
        return min(self._frames - 1, int(self._at()))

    def _at(self) -> float:
        moved = 0.0 if self._since is None else (self._now() - self._since) * FPS
        return min(self._frames - 1.0, self._place + moved)

    def play(self) -> None:
        """Goes on from the frame that is shown, or from the beginning where that is the last one."""
        place = self.frame
        self._place = 0.0 if place >= self._frames - 1 else float(place)
        self._since = self._now()

    def pause(self) -> None:
        """Stops at the frame that is shown."""
        self._place, self._since = float(int(self._at())), None

    def seek(self, frame: int) -> None:
        """Moves to a frame, held in range; playing goes on from there."""
        self._place = float(min(self._frames - 1, max(0, frame)))
        self._since = None if self._since is None else self._now()
