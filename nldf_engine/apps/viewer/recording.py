"""The clip of a state, as a video file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from nldf_engine.engine import Clip, Frames

NAME = "avatar.mp4"


class Stopped(Exception):
    """A recording that nobody waits for any more."""


class _Counted(Frames):
    """Frames that say how many of them were made, and end where nobody wants them any more."""

    def __init__(self, frames: Frames, made: Callable[[int], bool]) -> None:
        super().__init__(frames.renderer, frames.scene)
        self._made = made

    def reused(self, buffers: int) -> Iterator[np.ndarray]:
        """See `Frames`."""
        for number, frame in enumerate(super().reused(buffers)):
            if not self._made(number):
                raise Stopped
            yield frame


def record(clip: Clip, progress: Callable[[float], bool], crf: int = 16) -> bytes:
    """The clip as an .mp4 with sound and a signed manifest, as `Clip.save` writes it.

    Args:
        clip: what is recorded; an opaque one.
        progress: takes the share of the frames that are done; False ends the recording.
        crf: the encoder's quality.

    Raises:
        Stopped: `progress` ended it.
        FileProblem: a transparent clip, or no room for it.
    """
    total = max(1, len(clip))
    counted = replace(clip, frames=_Counted(clip.frames, lambda done: progress(done / total)))
    with tempfile.TemporaryDirectory(prefix="nldf-view-") as folder:
        return counted.save(Path(folder) / NAME, crf=crf).read_bytes()
