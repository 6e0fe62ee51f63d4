"""Metrics of single frames: PSNR and SSIM of the whole frame and of its regions."""

from __future__ import annotations

import numpy as np

from nldf_engine.evaluation.metrics.psnr import psnr_of_error, squared_error
from nldf_engine.evaluation.metrics.regions import region_masks
from nldf_engine.evaluation.metrics.ssim import ssim_map, ssim_of_map


def image_metrics(
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
    metrics = {"psnr": psnr_of_error(error), "ssim": ssim_of_map(similarity)}
    for name, mask in region_masks(labels, landmarks, (error.shape[0], error.shape[1])).items():
        metrics[f"psnr_{name}"] = psnr_of_error(error, mask)
        metrics[f"ssim_{name}"] = ssim_of_map(similarity, mask)
    return metrics
