"""Frames of a video file in the order of a plan that runs forward and jumps back now and then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.media.containers import RECORD_AGAIN
from nldf_engine.media.video import frames_at


class _Reader:
    """Reads a video forward.

    Args:
        path: the video.
        fps: the clock's frames a second.
        first: the frame to begin with.
    """

    def __init__(self, path: Path, fps: float, first: int) -> None:
        self.path, self.next = path, first
        self._frames = frames_at(path, fps, first=first)
        self._later = next(self._frames, None)

    def at(self, number: int) -> np.ndarray:
        """Frame `number`, not before the one that is next, in memory of its own."""
        while True:
            frame, self._later = self._later, next(self._frames, None)
            if frame is None:
                what = f"it has {self.next} frames, and frame {number} is wanted"
                raise FileProblem(self.path, what, RECORD_AGAIN)
            self.next += 1
            if self.next > number:
                # A slower video shows one picture for several frames.
                return frame.copy() if frame is self._later else frame

    def close(self) -> None:
        self._frames.close()  # type: ignore[attr-defined]


def play(
    path: str | Path, first: np.ndarray, second: np.ndarray, share: np.ndarray, fps: float
) -> Iterator[np.ndarray]:
    """Yields uint8 [H, W, 3], T of them, each of its own memory: frame `first[t]`, blended with `second[t]`.

    Two readers are open while two runs are blended, one otherwise.

    Args:
        path: the video.
        first, second: int64 [T] frames on the clock of `fps`; rising by one but where a run ends.
        share: [T] of the second frame.
        fps: frames a second.

    Raises:
        FileProblem: the video can't be read, or is shorter than the plan.
    """
    path = Path(path)
    reader, later = _Reader(path, fps, int(first[0])), None
    try:
        for one, other, part in zip(first.tolist(), second.tolist(), share.tolist(), strict=True):
            if part == 0.0 and later is not None:
                reader.close()
                reader, later = later, None
            frame = reader.at(one)
            if part == 0.0:
                yield frame
                continue
            later = later or _Reader(path, fps, other)
            yield blend(frame, later.at(other), part)
    finally:
        reader.close()
        if later is not None:
            later.close()


def blend(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """uint8: (1 - share) of one picture and share of another."""
    return np.rint(one * np.float32(1 - share) + other * np.float32(share)).astype(np.uint8)
