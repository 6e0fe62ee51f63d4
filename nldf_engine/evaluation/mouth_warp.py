"""Pictures of a mouth that opens less: a smooth displacement narrows the lips' gap of real frames."""

from __future__ import annotations

import numpy as np

from nldf_engine.geometry.face_mesh import LEFT_EYE_OUTER, LOWER_INNER, RIGHT_EYE_OUTER, UPPER_INNER

CORNERS = (61, 291)
FADE = 1.6
"""Half mouth widths from the mouth's middle beyond which nothing moves, to either side."""
ABOVE = 1.2
"""Half mouth widths above and below the lips' gap over which the displacement fades."""


def narrowed(frame: np.ndarray, landmarks: np.ndarray, gain: float) -> np.ndarray:
    """The frame with its lips' gap `gain` times as high.

    Along the face's upright axis, at height v from the middle of a gap of height g, a pixel shows what was at
    v / gain within the new gap, |v| <= gain g / 2; outside, the displacement that is reached there fades to
    nothing, as it does to the sides of the mouth. So the mapping is continuous, and monotone along the axis.

    Args:
        frame: [H, W, 3] uint8.
        landmarks: [478, 2] pixels of the frame; where lips or eyes are NaN, the frame is returned as it is.
        gain: in (0, 1].

    Raises:
        ValueError: a gain outside of its range.

    Returns:
        [H, W, 3] uint8.
    """
    import cv2

    if not 0 < gain <= 1:
        raise ValueError(f"gain: expected a number in (0, 1], got {gain}")
    points = landmarks.astype(np.float64)
    upper, lower, right, left = points[[UPPER_INNER, LOWER_INNER, *CORNERS]]
    across = points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]
    half, span = np.linalg.norm(left - right) / 2, np.linalg.norm(across)
    if not np.isfinite([half, span, *upper, *lower]).all() or half <= 0 or span <= 0:
        return frame
    across /= span
    down = np.array([-across[1], across[0]])
    edge = gain * max(0.0, float((lower - upper) @ down)) / 2
    middle = (upper + lower) / 2
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]] + 0.5
    u = ((x - middle[0]) * across[0] + (y - middle[1]) * across[1]) / (FADE * half)
    v = (x - middle[0]) * down[0] + (y - middle[1]) * down[1]
    beyond = np.clip((np.abs(v) - edge) / (ABOVE * half), 0, 1)
    sideways = np.where(np.abs(u) < 1, 0.5 + 0.5 * np.cos(np.pi * np.clip(np.abs(u), 0, 1)), 0.0)
    moved = (1 / gain - 1) * np.clip(v, -edge, edge) * (1 - beyond) * np.sqrt(sideways)
    maps = [(base + moved * axis - 0.5).astype(np.float32) for base, axis in ((x, down[0]), (y, down[1]))]
    return np.asarray(cv2.remap(frame, maps[0], maps[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
