"""The band about the neck, where head and torso meet: gaps, double chins and seams show there first."""

from __future__ import annotations

import numpy as np

from nldf_engine.datasets.dataset import LABELS

NECK_MARGIN = 0.03
"""How far the band reaches on either side of the seam, as a share of the frame's width."""


def neck_band(labels: np.ndarray) -> np.ndarray:
    """Where head, neck and torso meet: [H, W] bool, all pixels within a margin of their common borders.

    The borders are those between head and neck, head and torso, and neck and torso; of the background only
    what lies within the margin of them belongs to the band. Empty where the labels have no such border.

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
