"""The video that a dataset is cut from, as it is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from nldf_engine.datasets.footage import filmed_pixels
from nldf_engine.media.video import VideoInfo, shots_at
from nldf_engine.prepare.faces import Crop
from nldf_engine.prepare.shots import Shots
from nldf_engine.prepare.view import View

BORDER = 2  # pixels beside a guess, which alignment's blur mixes with it


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
        first, last: frames on the even clock that are prepared, [first, last); all to the end where `last` is
            None.
    """

    path: Path
    info: VideoInfo
    crop: Crop
    clock: np.ndarray | None = None
    view: View = field(default_factory=View)
    shots: Shots = field(default_factory=Shots.single)
    first: int = 0
    last: int | None = None

    def principal_point(self, size: float) -> tuple[float, float]:
        """The middle of the view in the crop, in pixels of one of this size."""
        scale = size / self.crop.side
        x, y = self.info.width / 2 - self.crop.x, self.info.height / 2 - self.crop.y
        return x * scale, y * scale

    def filmed(self, width: int) -> list[np.ndarray | None]:
        """For each shot which pixels of the crop it shows, float32 [width, width]; None for all.

        Others, and what is within `BORDER` pixels of them, are 0.
        """
        import cv2

        whole = np.array([[self.crop.side, 0, self.crop.x], [0, self.crop.side, self.crop.y]], np.float64)
        size, found, margin = (
            (self.info.width, self.info.height),
            [],
            np.ones((2 * BORDER + 1,) * 2, np.uint8),
        )
        for place in self.shots.place.astype(np.float64):
            of_crop = place[:, :2] @ whole
            of_crop[:, 2] += place[:, 2]
            seen = filmed_pixels(of_crop, size, width)
            inside = cv2.erode(seen.astype(np.uint8), margin, borderValue=(1,)).astype(np.float32)
            found.append(None if seen.all() else inside)
        return found

    def frames(self, fps: float, every: int = 1) -> Iterator[np.ndarray]:
        """Yields the frames uint8 [H, W, 3] of the view at so many a second, all in one framing.

        Args:
            fps: frames a second.
            every: only every so many of them; the others are decoded and not converted.
        """
        count = None if self.last is None else self.last - self.first
        last = None
        for shot in islice(shots_at(self.path, fps, self.clock, self.first), 0, count, every):
            if shot is not last:
                frame, last = self.shots.frame(self.view.of(shot.picture()), shot.time), shot
            yield frame
