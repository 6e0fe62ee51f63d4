"""Figures of single frames, and of short runs of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nldf_engine.evaluation.metrics.jitter import Flicker
from nldf_engine.evaluation.metrics.quality import psnr_of_error, squared_error, ssim_map, ssim_of_map
from nldf_engine.evaluation.metrics.regions import region_masks


def flicker(still: np.ndarray, frames: Sequence[Sequence[np.ndarray]], valid: np.ndarray) -> np.ndarray:
    """Mean squared second difference over time of the still pixels, of several sequences side by side.

    Args:
        still: [H, W] bool.
        frames: sequences of the same number of uint8 [H, W, 3] frames.
        valid: [T] bool; three frames in a row count where all of them are.

    Returns:
        [len(frames) + 1] float64: one figure a sequence, in squared grey levels, and last how many threes
        they are the mean of.
    """
    known = np.flatnonzero(valid)
    total, threes = np.zeros(len(frames)), 0
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        if len(run) < 3:
            continue
        meters = [Flicker(still) for _ in frames]
        for index in run:
            for meter, sequence in zip(meters, frames, strict=True):
                meter.add(sequence[index])
        total += [(len(run) - 2) * (meter.value or 0.0) ** 2 for meter in meters]
        threes += len(run) - 2
    return np.array([*total / max(1, threes), threes], float)


def image_figures(
    rendered: np.ndarray, real: np.ndarray, labels: np.ndarray | None, landmarks: np.ndarray
) -> dict[str, float]:
    """PSNR and SSIM of a frame, and of each of its regions; NaN where a region is empty.

    Args:
        rendered: [H, W, 3] uint8.
        real: [H, W, 3] uint8.
        labels: [H, W] uint8 or None.
        landmarks: [478, 2] of the real frame, in its pixels; NaN where unknown.
    """
    error, similarity = squared_error(rendered, real), ssim_map(rendered, real)
    figures = {"psnr": psnr_of_error(error), "ssim": ssim_of_map(similarity)}
    for name, mask in region_masks(labels, landmarks, (error.shape[0], error.shape[1])).items():
        figures[f"psnr_{name}"] = psnr_of_error(error, mask)
        figures[f"ssim_{name}"] = ssim_of_map(similarity, mask)
    return figures
