"""Structural similarity (scikit-image's) over a frame or a region of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nldf_engine.base.errors import MissingBackend
from nldf_engine.evaluation.metrics.inputs import checked_frames

SSIM_WINDOW = 11


def require_ssim() -> Callable[..., Any]:
    """scikit-image's `structural_similarity`.

    Raises:
        MissingBackend: scikit-image is not installed.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise MissingBackend(
            "scikit-image, which measures SSIM, is not installed", "pip install 'nldf_engine[evaluate]'"
        ) from error
    return structural_similarity


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
        MissingBackend: scikit-image is not installed.
    """
    similarity_of = require_ssim()
    a, b = checked_frames(rendered, real)
    if min(a.shape[:2]) < SSIM_WINDOW:
        raise ValueError(
            f"real: SSIM needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW}, got {list(real.shape)}"
        )
    # Its Gaussian window of sigma 1.5 reaches 5 pixels to either side, SSIM_WINDOW in all.
    _, similarity = similarity_of(
        a, b, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    edge = SSIM_WINDOW // 2
    inner = np.full(a.shape[:2], np.nan)
    inner[edge:-edge, edge:-edge] = similarity.mean(axis=2)[edge:-edge, edge:-edge]
    return inner


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
