"""Flicker of the still background: second differences over time, x[t-1] - 2 x[t] + x[t+1], in grey levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def still_region(labels: np.ndarray, margin: int) -> np.ndarray:
    """[H, W] bool: background in every frame, and further than `margin` pixels from the person.

    Args:
        labels: [T, H, W] uint8; 0 is background.
        margin: pixels by which the person's reach is grown.
    """
    person = (labels > 0).any(0)
    for _ in range(margin):
        grown = person.copy()
        grown[1:] |= person[:-1]
        grown[:-1] |= person[1:]
        grown[:, 1:] |= person[:, :-1]
        grown[:, :-1] |= person[:, 1:]
        person = grown
    return np.asarray(~person)


class Flicker:
    """RMS second difference over time of a still region, in grey levels of 255; frame by frame.

    Args:
        mask: [H, W] bool, the pixels that ought not to change.

    Example:
        >>> meter = Flicker(np.ones((2, 2), bool))
        >>> for level in (0, 4, 0):
        ...     meter.add(np.full((2, 2, 3), level, np.uint8))
        >>> meter.value
        8.0
    """

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask
        self._last: list[np.ndarray] = []
        self._squares, self._count = 0.0, 0

    def add(self, frame: np.ndarray) -> None:
        """Takes the next frame, uint8 [H, W, 3]; frames come in their order, without gaps.

        Raises:
            ValueError: another size than the mask's.
        """
        if frame.shape[:2] != self.mask.shape:
            raise ValueError(f"frame: expected the size {list(self.mask.shape)}, got {list(frame.shape)}")
        self._last = [*self._last[-2:], frame[self.mask].astype(np.float32)]
        if len(self._last) == 3:
            before, here, after = self._last
            self._squares += float(np.square(before - 2 * here + after).sum(dtype=np.float64))
            self._count += here.size

    @property
    def value(self) -> float | None:
        """The value; None before the third frame, or where the mask is empty."""
        return math.sqrt(self._squares / self._count) if self._count else None


def flicker(still: np.ndarray, frames: Sequence[Sequence[np.ndarray]], valid: np.ndarray) -> np.ndarray:
    """Mean squared second difference over time of the still pixels, of several sequences side by side.

    Args:
        still: [H, W] bool.
        frames: sequences of the same number of uint8 [H, W, 3] frames.
        valid: [T] bool; three frames in a row count where all of them are.

    Returns:
        [len(frames) + 1] float64: one value a sequence, in squared grey levels, and last how many threes
        they are the mean of.
    """
    known = np.flatnonzero(valid)
    total, threes = np.zeros(len(frames)), 0
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        if len(run) < 3:
            continue
        meters = [Flicker(still) for _ in frames]
        for index in run:
            for meter, sequence in zip(meters, frames, strict=True):
                meter.add(sequence[index])
        total += [(len(run) - 2) * (meter.value or 0.0) ** 2 for meter in meters]
        threes += len(run) - 2
    return np.array([*total / max(1, threes), threes], float)
