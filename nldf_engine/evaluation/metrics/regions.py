"""Where a figure is measured: the head, the mouth, and the band of the neck where head and torso meet.

With label maps the regions follow them. Two plain videos have none: their head is then the hull of the
face's landmarks, grown upwards over the forehead's hair, and the neck's band what lies below the jaw.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.evaluation.metrics.neck import neck_band
from nldf_engine.evaluation.metrics.quality import mouth_box
from nldf_engine.geometry.face_mesh import LIPS

REGIONS = ("foreground", "head", "mouth", "neck")
BAND = 0.08
"""How far the neck's band reaches below the jaw, without labels, as a share of the frame's height."""
JAW = (172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397)
"""The lower jaw from its right to its left angle."""
FOREHEAD, CHIN = 10, 152
GROW = 0.12
"""What the hull of the landmarks is grown by, as a share of the face's height."""


def _kernel(radius: float) -> np.ndarray:
    import cv2

    size = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def _drawn(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    import cv2

    mask = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(corners).astype(np.int32)), (1.0,))
    return mask


def _from_landmarks(points: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    import cv2

    height = float(np.linalg.norm(points[FOREHEAD] - points[CHIN]))
    head = cv2.dilate(_drawn(points, shape), _kernel(GROW * height))
    down = (points[CHIN] - points[FOREHEAD]) / max(height, 1e-6)
    jaw = points[list(JAW)]
    reach = BAND * shape[0]
    band = _drawn(np.concatenate([jaw - 0.25 * reach * down, jaw + reach * down]), shape)
    above = _drawn(np.concatenate([jaw - 0.25 * reach * down, points[[FOREHEAD]]]), shape)
    return head > 0, (band > 0) & (above == 0)


def region_masks(
    labels: np.ndarray | None, landmarks: np.ndarray, shape: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The regions of a frame, each [H, W] bool; one that can't be told is empty.

    Args:
        labels: [H, W] uint8 label map, or None.
        landmarks: [478, 2] float, pixels of the frame; NaN without a face.
        shape: (H, W).

    Raises:
        ValueError: labels of another size than the frame.
    """
    if labels is not None and labels.shape != shape:
        raise ValueError(f"labels: expected the frame's size {list(shape)}, got {list(labels.shape)}")
    masks = {name: np.zeros(shape, bool) for name in REGIONS}
    masks["mouth"][mouth_box(landmarks[list(LIPS)], shape[1], shape[0])] = True
    if labels is not None:
        masks["foreground"], masks["head"], masks["neck"] = (
            labels > 0,
            labels == LABELS["head"],
            neck_band(labels),
        )
    elif np.isfinite(landmarks).all():
        masks["head"], masks["neck"] = _from_landmarks(landmarks, shape)
    return masks
