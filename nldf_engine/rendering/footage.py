"""Footage that a rendered head is pasted into: where the head was in every frame, and how it was turned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nldf_engine.geometry.cameras import Camera


@dataclass(frozen=True)
class Footage:
    """A video of the avatar's person, and what was tracked in it: N frames at 25 a second.

    `datasets.footage_of` makes it of a prepared dataset and the video that it was prepared from.

    Args:
        path: the video.
        place: (x, y, side) pixels of the square of its frames that was tracked.
        camera: of that square, at the size that was tracked at.
        poses: float32 [N, 4, 4] camera to head.
        landmarks: float32 [N, 478, 2] pixels of `camera`.
        eyes: float32 [N] eye openness.
        torso: float32 [N, 2, 3] motion of the torso, in units of the square's width.
        usable: bool [N], frames that may be shown: the head was found there.
        shots: frames that begin a shot; the video is never looped across one.

    Raises:
        ValueError: the tracks are of different lengths, or the square has no size.
    """

    path: Path
    place: tuple[int, int, int]
    camera: Camera
    poses: np.ndarray
    landmarks: np.ndarray
    eyes: np.ndarray
    torso: np.ndarray
    usable: np.ndarray
    shots: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        counts = {name: len(getattr(self, name)) for name in ("landmarks", "eyes", "torso", "usable")}
        if set(counts.values()) != {len(self.poses)}:
            raise ValueError(
                f"Footage: expected tracks of {len(self.poses)} frames as the poses, got {counts}"
            )
        if not self.place[2] > 0:
            raise ValueError(f"Footage: place is (x, y, side) with a side above 0, got {self.place}")

    def __len__(self) -> int:
        return len(self.poses)

    def outlines(self, landmarks: np.ndarray) -> np.ndarray:
        """Landmarks [..., 2] of the square's camera as pixels of the whole frame."""
        x, y, side = self.place
        return np.asarray(landmarks * (side / self.camera.width) + (x, y), np.float32)
