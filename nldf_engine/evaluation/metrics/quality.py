"""Image metrics: PSNR over a frame or a region of it, and SSIM.

All of them take the uint8 frames that a viewer sees, compute in float64 on values in [0, 1], and give
one figure a frame. A figure for a clip is the mean of its frames' figures (`mean`), as the papers of
the field report it; it is not the PSNR of the clip's mean squared error, which is lower.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

PSNR_CAP = 100.0
"""Equal images have an infinite PSNR, which JSON can't hold: they are written as this many dB."""

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
MOUTH_MARGIN = (0.02, 0.03)
"""What the mouth box adds at each side of the lips, as shares of the frame's width and height."""


def _pair(rendered: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    for name, image in (("rendered", rendered), ("real", real)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"{name}: expected a uint8 [H,W,3] frame, got {image.dtype} {list(image.shape)}")
    if rendered.shape != real.shape:
        raise ValueError(
            f"rendered: expected the real frame's shape {list(real.shape)}, got {list(rendered.shape)}"
        )
    return rendered.astype(np.float64) / 255.0, real.astype(np.float64) / 255.0


def squared_error(rendered: np.ndarray, real: np.ndarray) -> np.ndarray:
    """The squared error of each pixel, averaged over its three colours.

    Args:
        rendered: [H, W, 3] uint8, sRGB.
        real: [H, W, 3] uint8, sRGB.

    Returns:
        [H, W] float64, in [0, 1].

    Raises:
        ValueError: another dtype, or shapes that differ.
    """
    a, b = _pair(rendered, real)
    return ((a - b) ** 2).mean(axis=2)


def psnr_of_error(error: np.ndarray, where: np.ndarray | None = None) -> float:
    """PSNR in dB of a squared-error map, over the pixels of `where` or over all of them.

    Args:
        error: [H, W] float64 from `squared_error`.
        where: [H, W] bool, or None for the whole frame.

    Returns:
        -10 log10(mean error), at most `PSNR_CAP`; NaN where `where` selects nothing.

    Example:
        >>> psnr_of_error(np.full((4, 4), 0.01))
        20.0
    """
    values = error if where is None else error[where]
    if values.size == 0:
        return math.nan
    mse = float(values.mean())
    return PSNR_CAP if mse <= 10 ** (-PSNR_CAP / 10) else -10.0 * math.log10(mse)


def psnr(rendered: np.ndarray, real: np.ndarray, where: np.ndarray | None = None) -> float:
    """PSNR in dB between two uint8 [H, W, 3] frames, over `where` ([H, W] bool) or the whole frame.

    Example:
        >>> black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
        >>> psnr(black, white) == 0.0, psnr(white, white)
        (True, 100.0)
    """
    return psnr_of_error(squared_error(rendered, real), where)


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

    a, b = _pair(rendered, real)
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


def mouth_box(lips: np.ndarray, width: int, height: int) -> tuple[slice, slice]:
    """The box around the lips, with a margin, as (rows, columns) slices of the frame.

    Args:
        lips: [L, 2] float, x and y in pixels of this frame.
        width: the frame's width in pixels.
        height: the frame's height in pixels.

    Returns:
        Slices within the frame; empty ones where the lips lie outside of it or are not finite.
    """
    if not np.isfinite(lips).all():
        return slice(0, 0), slice(0, 0)
    margin = np.array(MOUTH_MARGIN) * (width, height)
    low, high = lips.min(axis=0) - margin, lips.max(axis=0) + margin
    x0, y0 = np.clip(np.floor(low).astype(int), 0, (width, height))
    x1, y1 = np.clip(np.ceil(high).astype(int) + 1, 0, (width, height))
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def mean(values: Iterable[float]) -> float | None:
    """The mean of the finite values, or None where there is none.

    Example:
        >>> mean([1.0, math.nan, 3.0]), mean([math.nan])
        (2.0, None)
    """
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None
