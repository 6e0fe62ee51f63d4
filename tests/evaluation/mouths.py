"""Hand-made landmarks: faces whose lips stand apart by given gaps, and the spoilt mouths of controls."""

from __future__ import annotations

import numpy as np

EYES = 100.0
"""Pixels between the outer eye corners."""


def faces(gaps: np.ndarray, size: float = 1.0) -> np.ndarray:
    """Landmarks [T, 478, 2] of faces whose inner lips stand `gaps` eye distances apart; NaN: no face."""
    points = np.random.default_rng(0).uniform(100, 400, (1, 478, 2)).repeat(len(gaps), axis=0)
    points[:, 33], points[:, 263] = (200, 200), (200 + EYES, 200)
    points[:, 13], points[:, 14] = (250, 300), (250, 300)
    points[:, 14, 1] += EYES * np.nan_to_num(gaps)
    points[~np.isfinite(gaps)] = np.nan
    return size * points


def speech(count: int = 400, seed: int = 0) -> np.ndarray:
    """Lip gaps [count] like a talking person's: slow waves that close now and then, at most 0.2."""
    noise = np.random.default_rng(seed).normal(size=count + 8)
    smooth = np.convolve(noise, np.hanning(9), "valid")
    return np.clip(0.06 + 0.06 * smooth / smooth.std(), 0.0, 0.2)


def half_gain(gaps: np.ndarray) -> np.ndarray:
    """The same mouth at half its motion about its mean."""
    return gaps.mean() + 0.5 * (gaps - gaps.mean())


def mean_mouth(gaps: np.ndarray) -> np.ndarray:
    """The mean mouth, still."""
    return np.full(len(gaps), gaps.mean())


def late(gaps: np.ndarray, frames: int = 3) -> np.ndarray:
    """The same mouth some frames late, going round."""
    return np.roll(gaps, frames)
