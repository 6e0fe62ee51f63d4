"""Squares of a frame, turned and scaled to what a network looks at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Square:
    """A square of a frame.

    Args:
        x, y: its centre, in pixels.
        side: in pixels.
        angle: radians, clockwise as seen: how far a head in it is tilted.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    @staticmethod
    def around(points: np.ndarray, across: np.ndarray, scale: float, raised: float = 0.0) -> Square:
        """The square about the bounding box of points, tilted like a direction.

        Args:
            points: [N, 2].
            across: [2], what leads from left to right in an upright picture.
            scale: side of the square over the longer one of the box.
            raised: how far the square's middle lies above the box's, as the square stands, in heights of the
                box.
        """
        low, high = points.min(0), points.max(0)
        x, y = (low + high) / 2
        up = float(high[1] - low[1]) * raised
        angle = math.atan2(float(across[1]), float(across[0]))
        x, y = float(x) + up * math.sin(angle), float(y) - up * math.cos(angle)
        return Square(x, y, float((high - low).max()) * scale, angle)

    @staticmethod
    def whole(frame: np.ndarray) -> Square:
        """The smallest one that holds a whole frame [H, W, ...]."""
        height, width = frame.shape[:2]
        return Square(width / 2, height / 2, max(width, height))

    def overlap(self, other: Square) -> float:
        """Intersection over union of two squares, both taken as if they stood upright."""
        reach = (self.side + other.side) / 2
        most = min(self.side, other.side)
        wide, high = (
            min(max(reach - abs(a - b), 0.0), most) for a, b in ((self.x, other.x), (self.y, other.y))
        )
        union = self.side**2 + other.side**2 - wide * high
        return wide * high / union if union > 0 else 0.0

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Points of the square, 0 to 1 in both directions, in pixels of the frame; [..., 2 or more].

        A third number, depth, is scaled by the square's side.
        """
        cos, sin = math.cos(self.angle) * self.side, math.sin(self.angle) * self.side
        x, y = points[..., 0] - 0.5, points[..., 1] - 0.5
        placed = [cos * x - sin * y + self.x, sin * x + cos * y + self.y]
        return np.stack([*placed, *(self.side * points[..., k] for k in range(2, points.shape[-1]))], -1)

    def cut(self, frame: np.ndarray, size: int, repeat: bool) -> np.ndarray:
        """The square's pixels, bilinear, uint8 [size, size, 3].

        The corner of the square falls on the centre of the first pixel: so do the pictures that the networks
        were trained on.

        Args:
            frame: uint8 [H, W, 3].
            size: pixels of the result.
            repeat: beyond the frame, its border goes on; black otherwise.
        """
        import cv2

        corners = self.to_frame(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        steps = (corners[1:] - corners[0]) / size
        matrix = np.column_stack([steps[0], steps[1], corners[0]])
        border = cv2.BORDER_REPLICATE if repeat else cv2.BORDER_CONSTANT
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(frame, matrix, (size, size), flags=how, borderMode=border)


def as_batch(picture: np.ndarray, low: float = 0.0) -> Tensor:
    """A picture, uint8 [S, S, 3], as the networks take it: float32 [1, S, S, 3] from `low` to 1."""
    values = torch.from_numpy(picture).to(torch.float32).mul_((1 - low) / 255)
    return (values.add_(low) if low else values)[None]


def check_frame(frame: np.ndarray) -> None:
    """Raises TypeError or ValueError where `frame` is no uint8 [H, W, 3]."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        found = getattr(frame, "dtype", type(frame).__name__)
        raise TypeError(f"frame: expected a uint8 array [H, W, 3], got {found}")
    if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise ValueError(f"frame: expected a uint8 array [H, W, 3] with pixels, got the shape {frame.shape}")
