"""A clip in parts: stretches of its frames are rendered by themselves, and joined without a seam.

What a frame shows is worked out for the whole clip in every process (codes look at neighbouring frames, an
edit at the whole sound); only the drawing is divided. Stretches are kept losslessly, and the encoder sees all
frames in one go: the video is the one that a single process writes, to the byte, and no group of pictures
begins where a stretch does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.progress import track
from nldf_engine.engine.clip import Clip, Frames
from nldf_engine.media.video import VideoWriter, frames_at

LOSSLESS = {3: "ffv1-rgb", 4: "ffv1-rgba"}


@dataclass(frozen=True)
class Part:
    """A stretch of a clip.

    Args:
        number: of the stretch, from 0.
        count: of the stretches; the last one goes to the clip's end.
        seconds: how long the others are.

    Raises:
        ValueError: a number that is none of them, or no length.
    """

    number: int
    count: int
    seconds: float

    def __post_init__(self) -> None:
        if not (0 <= self.number < self.count and self.seconds > 0):
            raise ValueError(f"part: expected 0 <= number < count and more than 0 seconds, got {self}")

    def frames(self, total: int) -> range:
        """The numbers of its frames in a clip of `total` frames.

        Example:
            >>> [Part(number, 3, 0.4).frames(35) for number in range(3)]
            [range(0, 10), range(10, 20), range(20, 35)]
        """
        each = max(1, round(self.seconds * FPS))
        first = min(total, self.number * each)
        return range(first, total if self.number + 1 == self.count else min(total, first + each))


def save_part(clip: Clip, part: Part, path: Path) -> int:
    """Renders a stretch of a clip into a lossless file (.mkv); returns how many frames are in it.

    Raises:
        FileProblem: the clip has no frame there, or the file can't be written.
    """
    chosen, (_, height, width, channels) = part.frames(len(clip)), clip.frames.shape
    if not chosen:
        raise FileProblem(
            path, f"the clip has {len(clip)} frames, and none for stretch {part.number + 1} of {part.count}",
            "divide it into longer stretches",
        )  # fmt: skip
    with VideoWriter(path, width, height, fps=clip.fps, codec=LOSSLESS[channels]) as writer:
        for _, frame in track(clip.frames.numbered(chosen), f"render {path.name}", len(chosen), "frame"):
            writer.write(frame)
    return len(chosen)


class JoinedFrames(Frames):
    """Frames of a clip that were rendered before, in stretches.

    Args:
        frames: of the clip, which says what they are.
        paths: the stretches in their order, as `save_part` wrote them.
    """

    def __init__(self, frames: Frames, paths: Sequence[Path]) -> None:
        super().__init__(frames.renderer, frames.scene)
        self.shape, self.paths = frames.shape, list(paths)

    def numbered(self, chosen: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Frames`: in rising order; all before them are read."""
        wanted, last = set(chosen), max(chosen, default=-1)
        return ((n, frame) for n, frame in enumerate(islice(self, last + 1)) if n in wanted)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.reused(1)

    def reused(self, buffers: int) -> Iterator[np.ndarray]:
        """The frames in turn, each of its own memory: the decoder's.

        Raises:
            FileProblem: a stretch can't be read, or they are not the whole clip.
        """
        count = 0
        for path in self.paths:
            for frame in frames_at(path, fps=None, alpha=self.shape[3] == 4):
                count += 1
                if frame.shape != self.shape[1:] or count > len(self):
                    raise self._other(path)
                yield frame
        if count != len(self):
            raise self._other(self.paths[-1])

    def _other(self, path: Path) -> FileProblem:
        return FileProblem(
            path, f"these stretches are not those of a clip of {len(self)} frames", "render them again"
        )
