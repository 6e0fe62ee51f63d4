"""Sampling along rays for volume rendering: even strata and the lengths that samples represent.

`ops.resample` adds samples where a coarse pass saw density.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.nn.noise import uniform_like


def stratified_distances(
    rays: int, samples: int, near: float, far: float, like: Tensor, noise: torch.Generator | None = None
) -> Tensor:
    """[rays, samples] increasing distances in [near, far], metres: one to a stratum of even length.

    The stratum's middle, or a place drawn evenly in it by `noise` (NeRF, stratified sampling).
    """
    edges = torch.linspace(near, far, samples + 1, dtype=like.dtype, device=like.device)
    low, width = edges[:-1], edges[1] - edges[0]
    where = 0.5 if noise is None else uniform_like(like.new_empty(rays, samples), noise)
    return (low + width * where).expand(rays, samples)


def sample_lengths(distances: Tensor, far: float) -> Tensor:
    """[R, S]: the length of ray that each sorted sample represents, metres; the last ends at `far`."""
    end = torch.full_like(distances[:, :1], far)
    return (torch.cat([distances[:, 1:], end], 1) - distances).clamp_min(0)
