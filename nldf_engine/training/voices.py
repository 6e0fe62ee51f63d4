"""Augments audio features to sound like other voices, microphones and rooms than the video's own.

A network that learns from a minute of one speaker overfits to that voice's resonances and fails on others. In
a row of mel bands, voices differ to first order by a stretch along the bands (the length of the vocal tract),
a tilt and an offset (voice, microphone, level) and a noise floor (the room).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Standard deviations of the stretch's logarithm, and of tilt and offset in units of the features (one unit of
# the mel front-end is 20 dB). Half of the windows get a noise floor of up to FLOOR.
STRETCH, TILT, OFFSET = 0.07, 0.1, 0.05
FLOOR = 0.4
# Tilt and offset leave bands below this level silent.
SILENT = 0.05


def stretch_bands(rows: Tensor, factor: Tensor) -> Tensor:
    """Resamples rows linearly: band b takes the value of band b * factor; the last band is repeated.

    Args:
        rows: [N, ..., D] float32.
        factor: [N] positive.
    """
    bands = rows.shape[-1]
    place = (torch.arange(bands, device=rows.device) * factor[:, None]).clamp(0, bands - 1)
    low = place.long().clamp(max=max(0, bands - 2))
    shape = (len(rows), *[1] * (rows.dim() - 2), bands)
    share, low = (place - low).view(shape), low.view(shape).expand(rows.shape)
    return rows.gather(-1, low) * (1 - share) + rows.gather(-1, (low + 1).clamp(max=bands - 1)) * share


def augment_voices(windows: Tensor) -> Tensor:
    """Windows [N, T, W, D] of mel bands, each of the N as if another voice spoke in another room."""

    def draws(deviation: float) -> Tensor:
        return deviation * torch.randn(len(windows), 1, 1, 1, device=windows.device)

    moved = stretch_bands(windows, draws(STRETCH).flatten().exp())
    slope = torch.linspace(-1, 1, windows.shape[-1], device=windows.device)
    moved = moved + (draws(TILT) * slope + draws(OFFSET)) * (moved > SILENT)
    shares = torch.rand(2, len(windows), 1, 1, 1, device=windows.device)
    return torch.maximum(moved, FLOOR * shares[0] * (shares[1] < 0.5))
