"""Means and correlations over the frames that have a value."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

FEWEST_FRAMES = 3
"""Two frames always correlate fully; a correlation is given from this many on."""


def mean(values: Iterable[float]) -> float | None:
    """The mean of the finite values, or None where there is none.

    Example:
        >>> mean([1.0, math.nan, 3.0]), mean([math.nan])
        (2.0, None)
    """
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None


def finite_pairs(rendered: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of the frames where both curves [T] are finite: two of [N], N <= T.

    Raises:
        ValueError: lengths that differ.
    """
    if len(rendered) != len(real):
        raise ValueError(
            f"rendered: expected {len(real)} frames, as many as the real ones, got {len(rendered)}"
        )
    both = np.isfinite(rendered) & np.isfinite(real)
    return rendered[both], real[both]


def correlation(a: np.ndarray, b: np.ndarray, what: str = "the lip gap") -> tuple[float | None, str]:
    """Pearson's correlation over the frames where both are finite, or None and the reason.

    Args:
        a: [T] float.
        b: [T] float.
        what: what both are, for the reason.

    Example:
        >>> correlation(np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0, 9.0]))
        (1.0, '')
    """
    x, y = finite_pairs(a, b)
    if len(x) < FEWEST_FRAMES:
        return None, f"a correlation needs {FEWEST_FRAMES} frames with both faces found, there are {len(x)}"
    x, y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((x * x).sum() * (y * y).sum()))
    if spread < 1e-12:
        return None, f"{what} stays constant over these frames, so nothing can correlate with it"
    return float(np.clip((x * y).sum() / spread, -1.0, 1.0)), ""
