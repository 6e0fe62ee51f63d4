"""Frames that are rendered or decoded on demand, timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nldf_engine.evaluation.chunks import WARM_UP


class FrameSource:
    """Frames of a sequence by rising number, whether they can be indexed or only come one by one.

    The last `WARM_UP` frames are kept, so that the next chunk can read them again. `seconds` and `made` are
    the time that making the frames took, and how many were made.

    Args:
        make: makes the sequence, at the first access.
        count: how many frames it must have.
        shape: the shape that each must have, as uint8; None leaves them unchecked.

    Raises:
        ValueError: another number of frames, another shape or dtype.
    """

    def __init__(self, make: Callable[[], Any], count: int, shape: tuple[int, ...] | None = None) -> None:
        self._make, self._count, self._shape = make, count, shape
        self._frames: Any = None
        self._recent: dict[int, np.ndarray] = {}
        self._next, self.seconds, self.made = 0, 0.0, 0

    def _indexed(self) -> bool:
        return hasattr(self._frames, "__getitem__") and hasattr(self._frames, "__len__")

    def __getitem__(self, index: int) -> np.ndarray:
        """Frame `index`; numbers rise, but for the last `WARM_UP` ones."""
        if index in self._recent:
            return self._recent[index]
        start = time.perf_counter()
        if self._frames is None:
            self._frames = self._make()
            if not self._indexed():
                self._frames = iter(self._frames)
            elif len(self._frames) != self._count:
                raise self._wrong(len(self._frames))
        frame = self._frames[index] if self._indexed() else self._step_to(index)
        self.made += self._indexed()
        self.seconds += time.perf_counter() - start
        if self._shape is not None and (frame.shape != self._shape or frame.dtype != np.uint8):
            raise ValueError(
                f"renderer: expected uint8 frames {list(self._shape)}, got {frame.dtype} {list(frame.shape)}"
            )
        self._recent[index] = frame
        if len(self._recent) > WARM_UP:
            del self._recent[next(iter(self._recent))]
        return frame

    def _step_to(self, index: int) -> np.ndarray:
        if index < self._next:
            raise IndexError(f"frame {index} went by: these frames come one by one, and {self._next} is next")
        while True:
            frame = next(self._frames, None)
            if frame is None:
                raise self._wrong(self._next)
            self._next += 1
            self.made += 1
            if self._next > index:
                return np.array(frame)  # whoever yields frames may use their memory again

    def finish(self) -> None:
        """Checks that there are no frames beyond the last one.

        Raises:
            ValueError: there are.
        """
        ended = self._frames is not None and not self._indexed() and self._next == self._count
        if ended and next(self._frames, None) is not None:
            raise self._wrong("more")

    def _wrong(self, got: Any) -> ValueError:
        return ValueError(f"renderer: expected {self._count} frames, one for each feature window, got {got}")
