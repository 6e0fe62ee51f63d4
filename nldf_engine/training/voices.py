"""Other voices, microphones and rooms, made of the features of the one voice that a video holds.

A network that learns from a minute of one speaker takes that speaker's resonances for the sounds themselves,
and is lost with somebody else's. What tells voices apart is, in a row of mel bands, to first order a stretch
along the bands (the length of the vocal tract), a tilt and an offset (voice, microphone, level) and a floor
(a room).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Standard deviations: of the stretch's logarithm, and of tilt and offset in units of the features, of which
# one is 20 dB of the mel front-end. The floor lies at up to FLOOR, in half of the stretches.
STRETCH, TILT, OFFSET = 0.07, 0.1, 0.05
FLOOR = 0.4
# Bands that are silent stay so under tilt and offset.
SILENT = 0.05


def stretch_bands(rows: Tensor, factor: Tensor) -> Tensor:
    """Rows whose band b holds what band b * factor held, read linearly; the last band goes on beyond the end.

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


def other_voices(windows: Tensor) -> Tensor:
    """Windows [N, T, W, D] of mel bands, each of the N stretches as another voice in another room."""

    def draws(deviation: float) -> Tensor:
        return deviation * torch.randn(len(windows), 1, 1, 1, device=windows.device)

    moved = stretch_bands(windows, draws(STRETCH).flatten().exp())
    slope = torch.linspace(-1, 1, windows.shape[-1], device=windows.device)
    moved = moved + (draws(TILT) * slope + draws(OFFSET)) * (moved > SILENT)
    shares = torch.rand(2, len(windows), 1, 1, 1, device=windows.device)
    return torch.maximum(moved, FLOOR * shares[0] * (shares[1] < 0.5))
