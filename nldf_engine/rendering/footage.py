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
        places: float32 [N, 2, 3], (x, y, 1) of the square that was tracked, in units of its side, to pixels
            of each frame as it is looked at; see `square_places`.
        camera: of that square, at the size that was tracked at.
        poses: float32 [N, 4, 4] camera to head.
        landmarks: float32 [N, 478, 2] pixels of `camera`.
        eyes: float32 [N] eye openness.
        torso: float32 [N, 2, 3] motion of the torso, in units of the square's width.
        usable: bool [N], frames that may be shown: the head was found there.
        shots: frames that begin a shot; the video is never looped across one.
        turns: quarter turns counter-clockwise by which the frames are looked at.
        first: frame of the video that the first of the N is.

    Raises:
        ValueError: the tracks are of different lengths, or the square has no size.
    """

    path: Path
    places: np.ndarray
    camera: Camera
    poses: np.ndarray
    landmarks: np.ndarray
    eyes: np.ndarray
    torso: np.ndarray
    usable: np.ndarray
    shots: tuple[int, ...] = ()
    turns: int = 0
    first: int = 0

    def __post_init__(self) -> None:
        counts = {
            name: len(getattr(self, name)) for name in ("places", "landmarks", "eyes", "torso", "usable")
        }
        if set(counts.values()) != {len(self.poses)}:
            raise ValueError(
                f"Footage: expected tracks of {len(self.poses)} frames as the poses, got {counts}"
            )
        sides = np.linalg.det(self.places[:, :, :2])
        if not (sides > 0).all():
            raise ValueError("Footage: places are squares with a side above 0, as seen from the front")

    def __len__(self) -> int:
        return len(self.poses)


def square_places(x: float, y: float, side: float, frames: int) -> np.ndarray:
    """float32 [frames, 2, 3]: places of a square that is the same in every frame, with its corner at x, y."""
    return np.tile(np.array([[side, 0, x], [0, side, y]], np.float32), (frames, 1, 1))
