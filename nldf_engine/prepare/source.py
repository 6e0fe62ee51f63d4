"""The video that a dataset is cut from, as it is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nldf_engine.media.video import VideoInfo, pictures_at
from nldf_engine.prepare.faces import Crop
from nldf_engine.prepare.shots import Shots
from nldf_engine.prepare.view import View


@dataclass(frozen=True)
class Source:
    """The video that a dataset is cut from.

    Args:
        path: the file.
        info: of it, as seen in `view`.
        crop: the square of the view that the dataset shows.
        clock: another clock for the decoded frames, see `frames_at`.
        view: what of each frame is the film.
        shots: how it is brought into one framing.
    """

    path: Path
    info: VideoInfo
    crop: Crop
    clock: np.ndarray | None = None
    view: View = field(default_factory=View)
    shots: Shots = field(default_factory=Shots.single)

    def frames(self, fps: float) -> Iterator[np.ndarray]:
        """Yields the frames uint8 [H, W, 3] of the view at so many a second, all in one framing."""
        for shot, frame in pictures_at(self.path, fps, times=self.clock):
            yield self.shots.frame(self.view.of(frame), shot.time)
