"""Speech activity: the level of the sound around each frame, relative to the level of the voice.

It is read from the features of a front-end with `Frontend.levels`, such as "mel" and "whisper": powers over
the level of the last ten seconds' voice. So it is the same for a sound that is still arriving, and a
recording's gain doesn't change it.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.audio.frontends import FRONTENDS, FrontendConfig
from nldf_engine.audio.mel import RANGE_DB, SCALE
from nldf_engine.audio.windows import BEFORE, ROW, WINDOW
from nldf_engine.base.clock import SAMPLE_RATE

LOWEST_DB = -60.0
BACK = 1  # rows before a frame's moment that still belong to it


def window_levels(windows: np.ndarray, frontend: FrontendConfig) -> np.ndarray:
    """[T, 16] float32 dB over the voice's level, at least LOWEST_DB, in the rows of windows.

    Args:
        windows: [T, 16, D] of the front-end.
        frontend: one with levels; a row's is that of the sound `Frontend.level_delay` rows before.

    Raises:
        ValueError: its features hold no levels.
    """
    columns = frontend.kind.levels
    if columns is None:
        able = ", ".join(name for name, kind in FRONTENDS.items() if kind.levels is not None)
        raise ValueError(
            f"audio front-end {frontend.name!r}: its features hold no levels; expected one of {able}"
        )
    powers = windows[..., columns].astype(np.float64)
    ratio = (np.power(10.0, powers / SCALE) - 1).clip(0).sum(-1)
    return np.asarray(10 * np.log10(ratio + 1e-12) - RANGE_DB, np.float32).clip(LOWEST_DB)


def speech_active(
    windows: np.ndarray, frontend: FrontendConfig, threshold_db: float, ahead: float
) -> np.ndarray:
    """[T] bool: whether a frame's sound, or that of the next `ahead` seconds, exceeds a threshold.

    Args:
        windows: [T, 16, D] of the front-end.
        frontend: one with levels.
        threshold_db: over the level of the voice (so below 0).
        ahead: seconds; at most what a window sees counts.

    Raises:
        ValueError: the front-end's features hold no levels.
    """
    levels = window_levels(windows, frontend)
    moment = BEFORE + frontend.kind.level_delay(frontend)
    last = min(WINDOW, moment + 1 + round(ahead * SAMPLE_RATE / ROW))
    return np.asarray(levels[:, moment - BACK : last].max(1, initial=LOWEST_DB) > threshold_db)
