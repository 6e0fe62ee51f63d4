"""Do the lips follow? Mouth landmark distance and lip-gap correlation, from landmarks alone.

Landmarks are MediaPipe's 478 face-mesh points in pixels of a frame whose longer side is 512, whatever
the size the frame was rendered at, so that values at different sizes compare. `lmd` mixes how the
mouth is shaped with where the whole head is; `lmd_centred` and `lip_correlation` look at the shape
only, and separate true from wrong audio far better.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.evaluation.metrics.face_distance import aligned_mouth_distance, face_distance
from nldf_engine.evaluation.metrics.inputs import checked_faces, checked_landmarks
from nldf_engine.evaluation.metrics.statistics import correlation, mean
from nldf_engine.geometry.face_mesh import LEFT_EYE_OUTER, LIPS, LOWER_INNER, RIGHT_EYE_OUTER, UPPER_INNER


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
    a, b = (points[:, LIPS] for points in checked_faces(rendered, real))
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
    points = checked_landmarks(landmarks, "landmarks")
    gap = np.linalg.norm(points[:, UPPER_INNER] - points[:, LOWER_INNER], axis=1)
    eyes = np.linalg.norm(points[:, RIGHT_EYE_OUTER] - points[:, LEFT_EYE_OUTER], axis=1)
    return np.asarray(gap / np.where(eyes > 0, eyes, np.nan))


def lip_velocity(landmarks: np.ndarray) -> np.ndarray:
    """How the lips move: the change of the 40 lip points about their centre from each frame to the next.

    Args:
        landmarks: [T, 478, 2] pixels; NaN where no face was found.

    Returns:
        [T-1, 80] float64 in outer eye distances a frame; NaN where either frame has no face.
    """
    points = checked_landmarks(landmarks, "landmarks")
    eyes = np.linalg.norm(points[:, RIGHT_EYE_OUTER] - points[:, LEFT_EYE_OUTER], axis=1)[:, None, None]
    lips = points[:, LIPS]
    lips = (lips - lips.mean(axis=1, keepdims=True)) / np.where(eyes > 0, eyes, np.nan)
    return np.asarray(np.diff(lips, axis=0).reshape(max(len(lips) - 1, 0), -1))


def lip_scores(rendered: np.ndarray, real: np.ndarray) -> dict[str, float | str | None]:
    """The metrics on landmarks of a clip, and why one of them is None.

    `lmd`, `lmd_centred`, `lmd_aligned` (lips), `face_lmd`, `face_lmd_aligned` (whole face) in pixels at 512;
    `lip_correlation` of the lip gap, `lip_velocity_correlation` of `lip_velocity`, over all its components.
    Frames in which either face was not found are left out. A value is None where it has no meaning, and
    `reason` then says why; it is empty otherwise.

    Args:
        rendered: [T, 478, 2] pixels at 512; NaN where no face was found.
        real: [T, 478, 2], likewise.
    """
    near = mouth_distance(rendered, real)
    found = int(np.isfinite(near).sum())
    value, reason = correlation(lip_gap(rendered), lip_gap(real))
    velocity, why = correlation(
        lip_velocity(rendered).ravel(), lip_velocity(real).ravel(), "the speed of the lips"
    )
    if not found:
        reason = "no frame had a face found in both the real and the rendered picture"
    return {
        "lmd": mean(near),
        "lmd_centred": mean(mouth_distance(rendered, real, centred=True)),
        "lmd_aligned": mean(aligned_mouth_distance(rendered, real)),
        "face_lmd": mean(face_distance(rendered, real)),
        "face_lmd_aligned": mean(face_distance(rendered, real, aligned=True)),
        "lip_correlation": value,
        "lip_velocity_correlation": velocity,
        "reason": reason or why,
    }
