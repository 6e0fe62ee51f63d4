"""Where in a frame a metric is measured: head, mouth, and the band of the neck where head and torso meet.

With label maps the regions follow them. Two plain videos have none: their head is then the hull of the
face's landmarks, grown upwards over the forehead's hair, and the neck's band what is below the jaw.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.geometry.face_mesh import LIPS

REGIONS = ("foreground", "head", "mouth", "neck")
MOUTH_MARGIN = (0.02, 0.03)
"""What the mouth box adds at each side of the lips, as shares of the frame's width and height."""
NECK_MARGIN = 0.03
"""How far the neck's band reaches to either side of the borders, as a share of the frame's width."""
BAND = 0.08
"""How far the neck's band reaches below the jaw, without labels, as a share of the frame's height."""
JAW = (172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397)
"""The lower jaw from its right to its left angle."""
FOREHEAD, CHIN = 10, 152
GROW = 0.12
"""What the hull of the landmarks is grown by, as a share of the face's height."""


def mouth_box(lips: np.ndarray, width: int, height: int) -> tuple[slice, slice]:
    """The box around the lips, with a margin, as (rows, columns) slices of the frame.

    Args:
        lips: [L, 2] float, x and y in pixels of this frame.
        width: the frame's width in pixels.
        height: the frame's height in pixels.

    Returns:
        Slices within the frame; empty ones where the lips are outside of it or are not finite.
    """
    if not np.isfinite(lips).all():
        return slice(0, 0), slice(0, 0)
    margin = np.array(MOUTH_MARGIN) * (width, height)
    low, high = lips.min(axis=0) - margin, lips.max(axis=0) + margin
    x0, y0 = np.clip(np.floor(low).astype(int), 0, (width, height))
    x1, y1 = np.clip(np.ceil(high).astype(int) + 1, 0, (width, height))
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def neck_band(labels: np.ndarray) -> np.ndarray:
    """Where head, neck and torso meet: [H, W] bool, all pixels within a margin of their common borders.

    The borders are those between head and neck, head and torso, and neck and torso; of the background only
    what is within the margin of them belongs to the band. Empty where the labels have no such border.

    Args:
        labels: [H, W] integers, `datasets.dataset.LABELS`.

    Raises:
        ValueError: another shape.

    Example:
        >>> labels = np.repeat([LABELS["head"], LABELS["neck"], LABELS["torso"]], 4)[:, None].repeat(4, 1)
        >>> neck_band(labels)[:, 0].astype(int).tolist()
        [0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0]
    """
    import cv2

    if labels.ndim != 2:
        raise ValueError(f"labels: expected [H, W], got {list(labels.shape)}")
    speaker = labels != LABELS["background"]
    seam = np.zeros(labels.shape, np.uint8)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        meets = (labels[here] != labels[there]) & speaker[here] & speaker[there]
        seam[here] |= meets
        seam[there] |= meets
    reach = round(NECK_MARGIN * labels.shape[1])
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(seam, disc)) > 0


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
    """The regions of a frame, each [H, W] bool; empty where it is unknown.

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
