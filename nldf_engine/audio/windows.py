"""The clock that all front-ends share: 50 feature rows a second, one window of 16 of them a video frame.

Row r describes the 20 ms [r / 50, (r + 1) / 50). Frame t, shown at t / 25 s, gets rows [2t - 8, 2t + 8):
as much past as future about its moment. Rows outside of the sound are zeros, as in AD-NeRF's DeepSpeech
features.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.base.clock import FPS, SAMPLE_RATE

STRIDE = 2  # rows a frame
ROW = round(SAMPLE_RATE / (STRIDE * FPS))  # samples a row, 320
WINDOW = 16  # rows a window
BEFORE = WINDOW // 2  # rows of a window before its frame's moment


def count_frames(samples: int) -> int:
    """Video frames that so many samples at 16 kHz last, at least one."""
    return max(1, round(samples * FPS / SAMPLE_RATE))


def count_rows(samples: int) -> int:
    """Feature rows that so many samples at 16 kHz last, at least one."""
    return max(1, round(samples / ROW))


def windows(rows: np.ndarray, frames: int) -> np.ndarray:
    """One window a frame, float32 [frames, 16, D], of rows [R, D] at 50 Hz; zeros outside of them.

    Windows overlap, so they are a read-only view of the rows: of an hour, copies of them take 400 MB.

    Args:
        rows: [R, D] float32.
        frames: how many frames, at least one; may be more or fewer than the rows last.

    Raises:
        ValueError: a wrong shape or number.
    """
    padded = padded_rows(rows, frames)
    row, number = padded.strides
    shape = (int(frames), WINDOW, rows.shape[1])
    found: np.ndarray = np.ndarray(shape, np.float32, padded, 0, (STRIDE * row, row, number))
    found.flags.writeable = False
    return found


def padded_rows(rows: np.ndarray, frames: int) -> np.ndarray:
    """What `windows` is a view of: float32 [STRIDE * (frames - 1) + WINDOW, D], of which window t is rows
    [STRIDE * t, STRIDE * t + WINDOW). For arguments and errors see there."""
    if rows.ndim != 2:
        raise ValueError(f"rows: expected [R, D], got shape {list(rows.shape)}")
    if isinstance(frames, bool) or not isinstance(frames, int | np.integer) or frames < 1:
        raise ValueError(f"frames: expected a whole number of at least 1, got {frames!r}")
    needed = STRIDE * (int(frames) - 1) + WINDOW
    padded = np.zeros((needed, rows.shape[1]), np.float32)
    kept = rows[: needed - BEFORE]
    padded[BEFORE : BEFORE + len(kept)] = kept
    return padded
