"""How late are the lips, and how surely? Cross-correlation of the mouth's opening, without any weights.

The rendered clip's lip gap is shifted against the real one's: where both agree best is the lag. What a
clip of this length would reach by chance is measured on the clip itself: the best agreement around any
shift, going round, of the real lips with the rendered ones played backwards. Those open and close as often
and as wide, and follow nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nldf_engine.evaluation.metrics.statistics import FEWEST_FRAMES, correlation

LONGEST_LAG = 0.6  # seconds
CHANCE = 95.0  # per cent of the chance peaks that stay below it


@dataclass(frozen=True)
class LipSync:
    """How rendered lips follow the real ones over time; None where it has no meaning.

    Args:
        lag_ms: of the rendered lips behind the real ones, milliseconds; below zero they come early.
        peak: the correlation at that lag.
        chance: what 95 % of the peaks of lips that run backwards stay below: a peak under it says nothing.
        reason: why a value is None; empty otherwise.
    """

    lag_ms: float | None
    peak: float | None
    chance: float | None
    reason: str = ""


def lagged_correlations(real: np.ndarray, rendered: np.ndarray, most: int) -> np.ndarray:
    """Pearson's correlation of real[t] and rendered[t + lag] for each lag from -most to most.

    Args:
        real: [T] float; NaN where unknown.
        rendered: [T] float, likewise.
        most: frames.

    Returns:
        [2 most + 1] float64; NaN where fewer than three frames, or no change, are left.
    """
    count, values = len(real), np.full(2 * most + 1, np.nan)
    for place, lag in enumerate(range(-most, most + 1)):
        first, last = max(0, -lag), min(count, count - lag)
        if last - first >= FEWEST_FRAMES:
            value, _ = correlation(real[first:last], rendered[first + lag : last + lag])
            values[place] = np.nan if value is None else value
    return values


def lip_sync(real: np.ndarray, rendered: np.ndarray, fps: float) -> LipSync:
    """Lag, peak and chance of two curves of the mouth's opening.

    The lag is refined below a frame by the parabola through the peak and its neighbours.

    Args:
        real: [T] lip gap of the real frames; NaN where unknown.
        rendered: [T] lip gap of the rendered ones.
        fps: frames a second.

    Raises:
        ValueError: lengths that differ.

    Example:
        >>> t = np.sin(np.arange(200) * 0.3) + np.sin(np.arange(200) * 0.071)
        >>> round(lip_sync(t[4:], t[:-4], 25.0).lag_ms)
        160
    """
    if len(real) != len(rendered):
        raise ValueError(
            f"rendered: expected {len(real)} frames, as many as the real ones, got {len(rendered)}"
        )
    most = min(round(LONGEST_LAG * fps), max(0, len(real) - FEWEST_FRAMES))
    values = lagged_correlations(real, rendered, most)
    if not np.isfinite(values).any():
        _, reason = correlation(real, rendered)
        return LipSync(None, None, None, reason or "no lag leaves enough frames to correlate")
    best = int(np.nanargmax(values))
    offset = 0.0
    if 0 < best < 2 * most and np.isfinite(values[best - 1 : best + 2]).all():
        before, here, after = values[best - 1 : best + 2]
        bend = before - 2 * here + after
        offset = float(0.5 * (before - after) / bend) if bend < 0 else 0.0
    return LipSync(1000 * (best - most + offset) / fps, float(values[best]), _chance(real, rendered, most))


def _chance(real: np.ndarray, rendered: np.ndarray, most: int) -> float | None:
    """The peaks within `most` frames of every shift of the rendered lips, backwards."""
    if len(real) < 2 * most + 2:
        return None
    found = [correlation(real, np.roll(rendered[::-1], k))[0] for k in range(len(real))]
    values = np.array([np.nan if value is None else value for value in found])
    if not np.isfinite(values).all():
        return None
    around = np.concatenate([values[-most:], values, values[:most]]) if most else values
    peaks = np.lib.stride_tricks.sliding_window_view(around, 2 * most + 1).max(1)
    return float(np.percentile(peaks, CHANCE))
