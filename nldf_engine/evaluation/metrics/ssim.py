"""Structural similarity over a frame or a region of it."""

from __future__ import annotations

import math

import numpy as np

from nldf_engine.evaluation.metrics.inputs import checked_frames

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def ssim_map(rendered: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Structural similarity around each pixel, averaged over the three colours.

    Wang et al. 2004: Gaussian window 11, sigma 1.5, K1 = 0.01, K2 = 0.03, data range 1, population
    covariance.

    Args:
        rendered: [H, W, 3] uint8 with H, W >= 11.
        real: [H, W, 3] uint8.

    Returns:
        [H, W] float64; NaN in the 5 pixels at each edge, whose windows leave the frame.

    Raises:
        ValueError: another dtype, shapes that differ, or a frame smaller than the window.
    """
    import cv2

    a, b = checked_frames(rendered, real)
    if min(a.shape[:2]) < SSIM_WINDOW:
        raise ValueError(
            f"real: SSIM needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW}, got {list(real.shape)}"
        )

    def blur(x: np.ndarray) -> np.ndarray:
        window = (SSIM_WINDOW, SSIM_WINDOW)
        return np.asarray(cv2.GaussianBlur(x, window, SSIM_SIGMA, borderType=cv2.BORDER_REFLECT))

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    edge = SSIM_WINDOW // 2
    similarity = np.full(a.shape[:2], np.nan)
    similarity[edge:-edge, edge:-edge] = (numerator / denominator)[edge:-edge, edge:-edge].mean(axis=2)
    return similarity


def ssim_of_map(similarity: np.ndarray, where: np.ndarray | None = None) -> float:
    """The mean of `ssim_map` over the pixels of `where` or over all; NaN where none of them counts."""
    values = similarity if where is None else similarity[where]
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def ssim(rendered: np.ndarray, real: np.ndarray, where: np.ndarray | None = None) -> float:
    """Structural similarity of two frames: `ssim_map` averaged over `where` ([H, W] bool) or the whole frame.

    The 5 pixels at each edge don't count.

    Raises:
        ValueError: as `ssim_map`.
    """
    return ssim_of_map(ssim_map(rendered, real), where)
