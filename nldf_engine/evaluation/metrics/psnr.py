"""PSNR over a frame or a region of it.

On the uint8 frames that a viewer sees, in float64 on values in [0, 1]; one value a frame. A clip's value is
the mean of its frames' values, as the papers of the field report it; it is not the PSNR of the clip's mean
squared error, which is lower.
"""

from __future__ import annotations

import math

import numpy as np

from nldf_engine.evaluation.metrics.inputs import checked_frames

PSNR_CAP = 100.0
"""Equal images have an infinite PSNR, which JSON can't hold: they are written as this many dB."""


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
    a, b = checked_frames(rendered, real)
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
