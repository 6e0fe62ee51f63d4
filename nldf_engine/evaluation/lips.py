"""Do the lips follow? Mouth landmark distance and lip-gap correlation, from landmarks alone.

Landmarks are MediaPipe's 478 face-mesh points in pixels of a frame whose longer side is 512, whatever
the size the frame was rendered at, so that figures of different sizes compare. `lmd` mixes how the
mouth is shaped with where the whole head stands; `lmd_centred` and `lip_correlation` look at the shape
only, and separate true from wrong audio far better.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.base.face_mesh import LANDMARKS, LIPS
from nldf_engine.evaluation.metrics import mean

__all__ = ["LANDMARKS", "LIPS", "correlation", "lip_gap", "lip_scores", "mouth_distance"]

LANDMARK_SIZE = 512
UPPER_INNER, LOWER_INNER = 13, 14
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263
FEWEST_FRAMES = 3
"""Two frames always correlate fully; a correlation is given from this many on."""


def _checked(landmarks: np.ndarray, name: str) -> np.ndarray:
    if landmarks.ndim != 3 or landmarks.shape[1:] != (LANDMARKS, 2):
        raise ValueError(f"{name}: expected landmarks [T,{LANDMARKS},2], got {list(landmarks.shape)}")
    return landmarks.astype(np.float64)


def mouth_distance(rendered: np.ndarray, real: np.ndarray, centred: bool = False) -> np.ndarray:
    """The mean distance between the 40 lip landmarks of each pair of frames (LMD).

    Args:
        rendered: [T, 478, 2] pixels at 512; NaN where no face was found.
        real: [T, 478, 2], likewise.
        centred: subtract each frame's mouth centre first, so that only the mouth's shape counts.

    Returns:
        [T] float64 pixels at 512; NaN where either frame has no face.

    Raises:
        ValueError: wrong shapes, or lengths that differ.
    """
    a, b = _checked(rendered, "rendered")[:, LIPS], _checked(real, "real")[:, LIPS]
    if len(a) != len(b):
        raise ValueError(f"rendered: expected {len(b)} frames, as many as the real ones, got {len(a)}")
    if centred:
        a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return np.asarray(np.linalg.norm(a - b, axis=2).mean(axis=1))


def lip_gap(landmarks: np.ndarray) -> np.ndarray:
    """The opening between the inner lips (13-14), over the distance between the outer eye corners.

    Args:
        landmarks: [T, 478, 2] pixels; NaN where no face was found.

    Returns:
        [T] float64, dimensionless: 0 is a closed mouth, 0.3 a wide open one.
    """
    points = _checked(landmarks, "landmarks")
    gap = np.linalg.norm(points[:, UPPER_INNER] - points[:, LOWER_INNER], axis=1)
    eyes = np.linalg.norm(points[:, RIGHT_EYE_OUTER] - points[:, LEFT_EYE_OUTER], axis=1)
    return np.asarray(gap / np.where(eyes > 0, eyes, np.nan))


def correlation(a: np.ndarray, b: np.ndarray) -> tuple[float | None, str]:
    """Pearson's correlation over the frames where both are finite, or None and the reason.

    Args:
        a: [T] float.
        b: [T] float.

    Example:
        >>> correlation(np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0, 9.0]))
        (1.0, '')
    """
    both = np.isfinite(a) & np.isfinite(b)
    count = int(both.sum())
    if count < FEWEST_FRAMES:
        return None, f"a correlation needs {FEWEST_FRAMES} frames with both faces found, there are {count}"
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    spread = float(np.sqrt((x * x).sum() * (y * y).sum()))
    if spread < 1e-12:
        return None, "the lip gap stays constant over these frames, so nothing can correlate with it"
    return float(np.clip((x * y).sum() / spread, -1.0, 1.0)), ""


def lip_scores(rendered: np.ndarray, real: np.ndarray) -> dict[str, float | str | None]:
    """`lmd`, `lmd_centred` (pixels at 512) and `lip_correlation` of a clip.

    Frames in which either face was not found are left out. A value is None where it has no meaning,
    and `reason` then says why; it is empty otherwise.

    Args:
        rendered: [T, 478, 2] pixels at 512; NaN where no face was found.
        real: [T, 478, 2], likewise.
    """
    distance = mouth_distance(rendered, real)
    found = int(np.isfinite(distance).sum())
    value, reason = correlation(lip_gap(rendered), lip_gap(real))
    if not found:
        reason = "no frame had a face found in both the real and the rendered picture"
    return {
        "lmd": mean(distance),
        "lmd_centred": mean(mouth_distance(rendered, real, centred=True)),
        "lip_correlation": value,
        "reason": reason,
    }
