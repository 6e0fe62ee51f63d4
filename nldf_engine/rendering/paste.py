"""Pasting a rendered head into a frame of the video that it was filmed in: the region, and its seam.

The region is the face's outline, stretched as far as it takes, with a soft rim. Within the rim both pictures
are seen, so their difference there is known: filled in smoothly to the middle and evened over time, it is
added to the rendered picture, which then meets the frame in colour and light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nldf_engine.geometry.face_mesh import LEFT_EYE_OUTER, OVAL, RIGHT_EYE_OUTER

# The mask and the difference are computed on a square of so many pixels, whatever the size of the region.
GRID = 96
# Spread of the filling, in pixels of the grid, and the share of a new frame's difference in the evened one.
SPREAD, FRESH = 14.0, 0.15
SMALLEST = 1e-4
NOSE_BASE = 2


@dataclass(frozen=True)
class Region:
    """How far a region reaches from the face's middle, as multiples of its outline, along the face's axes.

    Args:
        side: to both sides; up: towards the forehead; down: towards the chin.
        rim: the rim's softness, a standard deviation, as a share of the face's height.
        below_nose: nothing above the nose's base.
    """

    side: float
    up: float
    down: float
    rim: float
    below_nose: bool = False


REGIONS = {
    "head": Region(1.5, 1.75, 1.2, 0.05),
    "face": Region(1.0, 0.92, 1.16, 0.035),
    "mouth": Region(0.9, 0.0, 1.16, 0.03, below_nose=True),
}
"""By name: the whole head with its hair, the face with the chin's reach, or the face below the nose."""


def outline(landmarks: np.ndarray, region: Region) -> tuple[np.ndarray, float]:
    """The polygon [K, 2] of a region about a face, and the face's height, both in pixels.

    Args:
        landmarks: [478, 2] pixels.
        region: one of `REGIONS`.
    """
    points = np.asarray(landmarks, np.float64)
    across = points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]
    across /= max(1e-6, float(np.hypot(*across)))
    down = np.array([-across[1], across[0]])
    if down @ (points[152] - points[10]) < 0:
        down = -down
    oval = points[list(OVAL)]
    middle = oval.mean(0)
    local = (oval - middle) @ np.stack([across, down], 1)
    height = float(np.ptp(local[:, 1]))
    stretched = local * np.where(local[:, 1:] < 0, [region.side, region.up], [region.side, region.down])
    if region.below_nose:
        top = float((points[NOSE_BASE] - middle) @ down)
        stretched[:, 1] = np.maximum(stretched[:, 1], top)
    return stretched @ np.stack([across, down]) + middle, height


class Paste:
    """Pastes the frames of a clip, one after the other.

    Args:
        place: (x, y, side) pixels of the square of the frames that the pictures show; nothing beyond
            it changes.
        region: which part is pasted.
    """

    def __init__(self, place: tuple[int, int, int], region: Region) -> None:
        self.place, self.region = place, region
        self._seam: np.ndarray | None = None

    def __call__(self, frame: np.ndarray, picture: np.ndarray, landmarks: np.ndarray) -> None:
        """Pastes a picture into a frame, which it changes.

        Args:
            frame: uint8 [H, W, 3].
            picture: uint8 [S, S, 3] of the square.
            landmarks: [478, 2] pixels of the frame.
        """
        import cv2

        polygon, height = outline(landmarks, self.region)
        reach = 3 * self.region.rim * height
        corner, side = np.array(self.place[:2]), self.place[2]
        low = np.maximum(np.floor(polygon.min(0) - reach).astype(int), corner.clip(0))
        high = np.minimum(np.ceil(polygon.max(0) + reach).astype(int), corner + side)
        high = np.minimum(high, frame.shape[1::-1])
        if (high - low).min() < 2:  # the face is beyond the square
            return
        part = frame[low[1] : high[1], low[0] : high[0]]
        size = (part.shape[1], part.shape[0])
        mask = self._mask(polygon - low, height, size)
        how = cv2.INTER_CUBIC if side > len(picture) else cv2.INTER_AREA
        first, last = low - corner, high - corner
        drawn = cv2.resize(picture, (side, side), interpolation=how)[first[1] : last[1], first[0] : last[0]]
        seam = self._difference(part, drawn, mask)
        weight = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)
        light = cv2.resize(np.rint(seam).astype(np.int16), size, interpolation=cv2.INTER_LINEAR)
        met = cv2.add(drawn, light, dtype=cv2.CV_8U)
        np.copyto(part, cv2.blendLinear(np.ascontiguousarray(part), met, 1 - weight, weight))

    def _mask(self, polygon: np.ndarray, height: float, size: tuple[int, int]) -> np.ndarray:
        """[GRID, GRID] float32 weights of the picture."""
        import cv2

        scale = GRID / np.array(size)
        hull = cv2.convexHull((polygon * scale * 16).astype(np.int32))
        mask = np.zeros((GRID, GRID), np.float32)
        cv2.fillConvexPoly(mask, hull, (1.0,), cv2.LINE_8, 4)
        rim = self.region.rim * height * scale
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), float(rim[0]), sigmaY=float(rim[1])))

    def _difference(self, part: np.ndarray, drawn: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """[GRID, GRID, 3] float32 by which frame and picture differ at the seam, filled in and evened."""
        import cv2

        # The difference is smooth: every so many pixels are enough to find it.
        step = max(1, min(part.shape[:2]) // (2 * GRID))
        coarse = (x[step // 2 :: step, step // 2 :: step] for x in (part, drawn))
        small = [cv2.resize(x, (GRID, GRID), interpolation=cv2.INTER_AREA) for x in coarse]
        ring = 4 * mask * (1 - mask)
        apart = (small[0].astype(np.float32) - small[1]) * ring[..., None]
        spread = cv2.GaussianBlur(apart, (0, 0), SPREAD)
        known = cv2.GaussianBlur(ring, (0, 0), SPREAD)
        seam = spread / np.maximum(known, SMALLEST)[..., None]
        self._seam = seam if self._seam is None else self._seam + FRESH * (seam - self._seam)
        return self._seam
