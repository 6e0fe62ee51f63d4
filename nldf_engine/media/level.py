"""How loud a sound is, and whether there is any: for warnings before hours of training.

A constant offset (DC) is no sound, so it counts as none.
"""

from __future__ import annotations

import numpy as np

LOWEST_DB = -120.0  # what digital silence is said to be; finite, so that it can be written as JSON
SILENT_DB = -60.0
STRETCH = 1600  # samples; a tenth of a second at 16 kHz, about a syllable


def _decibels(power: float) -> float:
    return LOWEST_DB if power <= 0 else max(LOWEST_DB, float(10 * np.log10(power)))


def level_db(samples: np.ndarray) -> float:
    """Root mean square of a sound in dB, where a square wave of full scale has 0; at least LOWEST_DB.

    Args:
        samples: [N] float, mono.

    Raises:
        ValueError: another shape.

    Example:
        >>> round(level_db(0.1 * np.sin(np.arange(16000))), 1)
        -23.0
    """
    if samples.ndim != 1:
        raise ValueError(f"level_db: samples must be [N], got shape {list(samples.shape)}")
    return _decibels(float(np.var(samples, dtype=np.float64))) if len(samples) else LOWEST_DB


def is_silent(samples: np.ndarray, threshold_db: float = SILENT_DB) -> bool:
    """True when no tenth of a second is louder than `threshold_db` (see `level_db`).

    One word in an hour of silence is enough to make it False.

    Args:
        samples: [N] float, mono at 16 kHz.
        threshold_db: the level below which a stretch counts as silent.

    Raises:
        ValueError: another shape.
    """
    if samples.ndim != 1:
        raise ValueError(f"is_silent: samples must be [N], got shape {list(samples.shape)}")
    whole = len(samples) // STRETCH * STRETCH
    powers = [float(np.var(samples[whole:], dtype=np.float64))] if len(samples) > whole else []
    if whole:
        powers.append(float(np.var(samples[:whole].reshape(-1, STRETCH), axis=1, dtype=np.float64).max()))
    return _decibels(max(powers, default=0.0)) <= threshold_db
