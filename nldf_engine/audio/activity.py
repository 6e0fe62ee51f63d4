"""Speech activity: the level of the sound around each frame, relative to the level of the voice.

It is read from the features of a front-end with `Frontend.spectral_bands`, such as "mel": band powers over
the level of the last ten seconds' voice. So it is the same for a sound that is still arriving, and a
recording's gain doesn't change it.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.audio.mel import RANGE_DB, SCALE
from nldf_engine.audio.windows import BEFORE, ROW, WINDOW
from nldf_engine.base.clock import SAMPLE_RATE

LOWEST_DB = -60.0
BACK = 1  # rows before a frame's moment that still belong to it


def window_levels(windows: np.ndarray) -> np.ndarray:
    """[T, 16] float32 dB over the voice's level, at least LOWEST_DB, of the rows of windows [T, 16, D]."""
    ratio = (np.power(10.0, windows.astype(np.float64) / SCALE) - 1).clip(0).sum(-1)
    return np.asarray(10 * np.log10(ratio + 1e-12) - RANGE_DB, np.float32).clip(LOWEST_DB)


def speech_active(windows: np.ndarray, threshold_db: float, ahead: float) -> np.ndarray:
    """[T] bool: whether a frame's sound, or that of the next `ahead` seconds, exceeds a threshold.

    Args:
        windows: [T, 16, D] of a front-end with spectral bands.
        threshold_db: over the level of the voice (so below 0).
        ahead: seconds, at most what a window sees.
    """
    last = min(WINDOW, BEFORE + 1 + round(ahead * SAMPLE_RATE / ROW))
    return np.asarray(
        window_levels(windows)[:, BEFORE - BACK : last].max(1, initial=LOWEST_DB) > threshold_db
    )
