"""Do the rendered lips open as far and as often as the real ones? Two metrics of the lip gap's distribution.

A correlation ignores how far a mouth opens: lips that mumble in time reach 1. `lip_amplitude_ratio` compares
the spread of the gap alone, `lip_distribution` everything about how wide the lips stand but when.
Both take `lips.lip_gap`, over the frames with both faces.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.evaluation.metrics.statistics import FEWEST_FRAMES, finite_pairs

STILL = 1e-9
"""Gaps that deviate by less than this, in eye distances, do not move at all."""


def _gaps(rendered: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """The gaps of the frames with both faces, and why nothing can be divided by the real ones' spread."""
    ours, theirs = finite_pairs(rendered, real)
    reason = ""
    if len(theirs) < FEWEST_FRAMES:
        reason = f"a spread needs {FEWEST_FRAMES} frames with both faces found, there are {len(theirs)}"
    elif theirs.std() < STILL:
        reason = "the real lips do not move over these frames"
    return ours, theirs, reason


def lip_amplitude_ratio(rendered: np.ndarray, real: np.ndarray) -> tuple[float | None, str]:
    """Standard deviation over time of the rendered lip gap over that of the real one.

    Args:
        rendered: [T] lip gaps; NaN where no face was found.
        real: [T], likewise.

    Returns:
        (the ratio, ""): 1 moves as much, 0.5 half as much, 0 not at all; or (None, the reason).

    Raises:
        ValueError: lengths that differ.

    Example:
        >>> real = np.array([0.0, 0.1, 0.2])
        >>> round(lip_amplitude_ratio(0.1 + 0.5 * (real - 0.1), real)[0], 6)
        0.5
    """
    ours, theirs, reason = _gaps(rendered, real)
    return (None, reason) if reason else (float(ours.std() / theirs.std()), "")


def lip_distribution(rendered: np.ndarray, real: np.ndarray) -> tuple[float | None, str]:
    """1-Wasserstein distance of the rendered from the real lip gaps, over the real ones' standard deviation.

    Of two samples of equal size it is the mean distance of their sorted values.

    Args:
        rendered: [T] lip gaps; NaN where no face was found.
        real: [T], likewise.

    Returns:
        (the distance, ""): 0 where both open equally far and equally often, whenever they do; 1 where
        all gaps are off by one standard deviation of the real ones; or (None, the reason).

    Raises:
        ValueError: lengths that differ.

    Example:
        >>> real = np.array([0.0, 0.1, 0.2])
        >>> lip_distribution(real[::-1], real)
        (0.0, '')
    """
    ours, theirs, reason = _gaps(rendered, real)
    if reason:
        return None, reason
    return float(np.abs(np.sort(ours) - np.sort(theirs)).mean() / theirs.std()), ""
