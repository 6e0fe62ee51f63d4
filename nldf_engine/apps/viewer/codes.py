"""Motion codes of the mouth that are changed over a stretch of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 4.0
MOST_EDITS = 200
FADE = 4  # frames over which a change comes and goes


@dataclass(frozen=True)
class CodeEdit:
    """A change of one code.

    Args:
        code: its number.
        first, last: of the frames, both included, in which it counts whole; it fades over FADE frames more.
        amount: that is added, in standard deviations of the training video.

    Raises:
        ValueError: a stretch that ends before it begins, or an amount beyond LARGEST.
    """

    code: int
    first: int
    last: int
    amount: float

    def __post_init__(self) -> None:
        if self.code < 0 or not 0 <= self.first <= self.last:
            raise ValueError(f"codes: expected a code and frames first <= last from 0 on, got {self}")
        if not math.isfinite(self.amount) or abs(self.amount) > LARGEST:
            raise ValueError(f"codes: expected an amount of -{LARGEST:g} to {LARGEST:g}, got {self.amount!r}")


def changed(codes: Tensor, edits: Sequence[CodeEdit]) -> Tensor:
    """Motion codes [T, K] with the changes added.

    Raises:
        ValueError: a code that there is not, or too many changes.
    """
    if len(edits) > MOST_EDITS:
        raise ValueError(f"codes: expected at most {MOST_EDITS} changes, got {len(edits)}")
    made, time = codes.clone(), torch.arange(len(codes), device=codes.device, dtype=codes.dtype)
    for edit in edits:
        if edit.code >= codes.shape[1]:
            raise ValueError(f"codes: expected a code of 0 to {codes.shape[1] - 1}, got {edit.code}")
        outside = torch.maximum(edit.first - time, time - edit.last).clamp(0, FADE)
        made[:, edit.code] += edit.amount * (0.5 + 0.5 * torch.cos(math.pi * outside / FADE))
    return made
