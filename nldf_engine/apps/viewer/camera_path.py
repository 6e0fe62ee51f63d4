"""A camera path: the head's place and angles at some moments, and the poses between them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nldf_engine.base.clock import FPS
from nldf_engine.geometry.rotations import HEAD_NUMBERS, poses_of

MOST_KEYS = 200
DECIMALS = 7


@dataclass(frozen=True)
class Key:
    """A key frame.

    Args:
        frame: its number.
        head: the head's six numbers in it (`geometry.rotations.HEAD_NUMBERS`).
    """

    frame: int
    head: tuple[float, ...]


@dataclass(frozen=True)
class CameraPath:
    """Key frames in the order of their numbers.

    Between them the head's numbers follow monotone cubics (Fritsch and Carlson 1980), which never lead beyond
    two neighbouring keys; before the first and after the last the head stands still.

    Args:
        keys: with rising frames.

    Raises:
        ValueError: frames that do not rise, too many keys, or numbers that are not six.
    """

    keys: tuple[Key, ...] = ()

    def __post_init__(self) -> None:
        frames = [key.frame for key in self.keys]
        if frames != sorted(set(frames)) or (frames and frames[0] < 0):
            raise ValueError(f"keys: expected frames that rise from 0 or later, got {frames}")
        if len(frames) > MOST_KEYS:
            raise ValueError(f"keys: expected at most {MOST_KEYS}, got {len(frames)}")
        for key in self.keys:
            if len(key.head) != len(HEAD_NUMBERS) or not np.isfinite(key.head).all():
                raise ValueError(f"keys: expected six finite numbers of the head, got {key.head}")

    def with_key(self, key: Key) -> CameraPath:
        """The path with one more key, in the place of one at the same frame."""
        others = [old for old in self.keys if old.frame != key.frame]
        return CameraPath(tuple(sorted([*others, key], key=lambda each: each.frame)))

    def without(self, frame: int) -> CameraPath:
        """The path without the key nearest to a frame."""
        if not self.keys:
            return self
        nearest = min(self.keys, key=lambda key: abs(key.frame - frame))
        return CameraPath(tuple(key for key in self.keys if key is not nearest))

    def poses(self, frames: int) -> Tensor:
        """[frames, 4, 4] float32 camera-to-head.

        Raises:
            ValueError: the path has no keys.
        """
        if not self.keys:
            raise ValueError("the camera path has no key frames yet; set one first")
        moments = np.array([key.frame for key in self.keys], np.float64)
        heads = np.array([key.head for key in self.keys], np.float64)
        when = np.arange(frames).clip(moments[0], moments[-1])
        if len(moments) == 1:
            return poses_of(torch.from_numpy(heads.repeat(frames, 0)))
        from scipy.interpolate import PchipInterpolator

        return poses_of(torch.from_numpy(PchipInterpolator(moments, heads)(when)))

    def to_json(self, frames: int) -> str:
        """The poses as text that `nldf render --poses FILE.json` reads: [frames, 4, 4] nested lists."""
        rows = np.round(self.poses(frames).double().numpy(), DECIMALS).tolist()
        return json.dumps(rows)

    def describe(self) -> str:
        """The key frames in a line of Markdown each."""
        if not self.keys:
            return "*no key frames*"
        rows = (
            f"- {key.frame / FPS:.2f} s: turn {key.head[0]:+.1f}°, raise {key.head[1]:+.1f}°, "
            f"distance {key.head[5]:.3f} m"
            for key in self.keys
        )
        return "\n".join(rows)
