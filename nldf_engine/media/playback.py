"""Frames of a video file in the order of a plan that runs forward and jumps back now and then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.media.containers import RECORD_AGAIN
from nldf_engine.media.planes import Planes
from nldf_engine.media.video import shots_at


class _Reader:
    """Reads a video forward.

    Args:
        path: the video.
        fps: the clock's frames a second.
        first: the frame to begin with.
    """

    def __init__(self, path: Path, fps: float, first: int) -> None:
        self.path, self.next = path, first
        self._shots = shots_at(path, fps, first=first)

    def at(self, number: int) -> Planes:
        """Frame `number`, not before the one that is next, in memory of its own."""
        while True:
            shot = next(self._shots, None)
            if shot is None:
                what = f"it has {self.next} frames, and frame {number} is wanted"
                raise FileProblem(self.path, what, RECORD_AGAIN)
            self.next += 1
            if self.next > number:
                return shot.planes()

    def close(self) -> None:
        self._shots.close()  # type: ignore[attr-defined]


def play(
    path: str | Path, first: np.ndarray, second: np.ndarray, share: np.ndarray, fps: float
) -> Iterator[Planes]:
    """Yields T frames, each of its own memory: frame `first[t]`, blended with `second[t]`.

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
            frame.blend(later.at(other), part)
            yield frame
    finally:
        reader.close()
        if later is not None:
            later.close()

