"""Figures of single frames, and of short runs of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nldf_engine.evaluation.jitter import Flicker
from nldf_engine.evaluation.metrics import psnr_of_error, squared_error, ssim_map, ssim_of_map
from nldf_engine.evaluation.regions import region_masks


def flicker(still: np.ndarray, rendered: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> np.ndarray:
    """[3] mean squared second difference of the still pixels, rendered and real, and over how many frames."""
    meters = Flicker(still), Flicker(still)
    for meter, frames in zip(meters, (rendered, real), strict=True):
        for frame in frames:
            meter.add(frame)
    squares = [0.0 if meter.value is None else meter.value**2 for meter in meters]
    return np.array([*squares, max(0, len(rendered) - 2)], float)


def image_figures(
    rendered: np.ndarray, real: np.ndarray, labels: np.ndarray | None, landmarks: np.ndarray
) -> dict[str, float]:
    """PSNR and SSIM of a frame, and of each of its regions; NaN where a region is empty.

    Args:
        rendered: [H, W, 3] uint8.
        real: [H, W, 3] uint8.
        labels: [H, W] uint8 or None.
        landmarks: [478, 2] of the real frame, in its pixels; NaN where unknown.
    """
    error, similarity = squared_error(rendered, real), ssim_map(rendered, real)
    figures = {"psnr": psnr_of_error(error), "ssim": ssim_of_map(similarity)}
    for name, mask in region_masks(labels, landmarks, (error.shape[0], error.shape[1])).items():
        figures[f"psnr_{name}"] = psnr_of_error(error, mask)
        figures[f"ssim_{name}"] = ssim_of_map(similarity, mask)
    return figures
