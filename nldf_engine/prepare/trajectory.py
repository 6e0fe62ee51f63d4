"""Tracks over time: least squares that weighs every frame by what it knows, and likes even motion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def banded(diagonal: np.ndarray, stiff: np.ndarray, cuts: Sequence[int] = ()) -> np.ndarray:
    """Lower banded storage [3 D, D T] of block-diagonal [T, D, D] plus D2^T D2 (x) stiff [D, D].

    D2 takes second differences over time; those across a frame of `cuts`, which begins a shot, are left out.
    """
    frames, size = diagonal.shape[:2]
    kept = within(frames, cuts).astype(float)
    couple = np.zeros((3, frames))  # D2^T D2: its three lower diagonals
    for a, va in ((0, 1.0), (1, -2.0), (2, 1.0)):
        for c, vc in ((0, 1.0), (1, -2.0), (2, 1.0)):
            if a >= c and frames > 2:
                couple[a - c, c : frames - 2 + c] += va * vc * kept
    band = np.zeros((3 * size, frames, size))
    for i in range(size):
        for j in range(size):
            if i >= j:
                band[i - j, :, j] += diagonal[:, i, j] + couple[0] * stiff[i, j]
            for step in (1, 2):
                band[size * step + i - j, :, j] += couple[step] * stiff[i, j]
    return band.reshape(3 * size, size * frames)


def within(frames: int, cuts: Sequence[int]) -> np.ndarray:
    """bool [frames - 2], which second differences are of one shot."""
    kept = np.ones(max(0, frames - 2), bool)
    for cut in cuts:
        kept[max(0, cut - 2) : cut] = False
    return kept


def smooth(
    values: np.ndarray, information: np.ndarray, stiff: np.ndarray, cuts: Sequence[int] = ()
) -> np.ndarray:
    """The track p [T, D] that minimises sum_t |p_t - v_t|^2_{I_t} + sum_t |p_t+1 - 2 p_t + p_t-1|^2_S.

    Args:
        values: v [T, D].
        information: I [T, D, D], positive semi-definite; a frame that knows nothing follows its neighbours.
        stiff: S [D, D]: the inverse variance of second differences.
        cuts: frames that begin a shot: nothing is smoothed across them.

    Raises:
        numpy.linalg.LinAlgError: the frames together do not decide the track.
    """
    from scipy.linalg import solveh_banded

    pull = (information @ values[..., None])[..., 0]
    return solveh_banded(banded(information, stiff, cuts), pull.ravel(), lower=True).reshape(values.shape)
