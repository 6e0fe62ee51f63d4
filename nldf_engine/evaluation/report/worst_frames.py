"""The frames of a clip that a person should look at first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nldf_engine.evaluation.report.curves import values_of

EACH = 3
"""How many of the worst frames each metric names."""
APART = 5
"""Least distance, in frames, between two of the worst ones: neighbours fail alike."""


def worst_frames(per_frame: Mapping[str, Sequence[Any]]) -> list[tuple[int, str]]:
    """Places (not frame numbers) of the frames to look at first, and why.

    The lowest PSNR of the frame and of the mouth, the lips furthest off, and the largest jumps of PSNR
    from one frame to the next.

    Args:
        per_frame: one list a metric, as `frames.json` holds them; "psnr" among them.
    """
    chosen: list[tuple[int, str]] = []

    def add(score: np.ndarray, describe: Callable[[int], str]) -> None:
        taken: list[int] = []
        for place in np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable"):
            if len(taken) == EACH or not np.isfinite(score[place]):
                break
            if all(abs(place - other) >= APART for other in taken):
                taken.append(int(place))
                chosen.append((int(place), describe(int(place))))

    for name, label in (("psnr", "full frame"), ("psnr_mouth", "mouth")):
        if name in per_frame:
            values = values_of(per_frame, name)
            add(-values, lambda k, v=values, t=label: f"{t}: {v[k]:.2f} dB")  # type: ignore[misc]
    if "lmd_centred" in per_frame:
        lips = values_of(per_frame, "lmd_centred")
        add(lips, lambda k: f"lips off by {lips[k]:.2f} px, centred")
    psnr = values_of(per_frame, "psnr")
    jump = np.concatenate([[np.nan], np.abs(np.diff(psnr))]) if len(psnr) else psnr
    add(np.where(jump > 0, jump, np.nan), lambda k: f"jumps by {jump[k]:.2f} dB from the frame before")
    return chosen
