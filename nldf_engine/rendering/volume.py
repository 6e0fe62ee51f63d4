"""Sampling along rays for volume rendering: even strata, and the lengths that samples represent.

`ops.resample` adds samples where a coarse pass saw density.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.nn.noise import uniform_like
from nldf_engine.rendering.fields import Rays

# A ray that is steeper to the head's front than this is sampled as if it were not.
SLOWEST = 0.25
NEAREST = 0.02


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


def slab_distances(
    rays: Rays, slab: tuple[float, float], samples: int, noise: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Distances [F, N, S] along rays to strata between two planes of head space, and lengths [F, N, S];
    metres.

    A head is thinner than the range of its distances from a moving camera, so no sample is spent before or
    behind it.

    Args:
        rays: [F, N].
        slab: (front, back), z in metres.
        samples: S.
        noise: draws the place in each stratum, whose middle it is otherwise.
    """
    along = rays.directions[..., 2:].clamp_min(SLOWEST)
    near = ((slab[0] - rays.origins[..., 2:]) / along).clamp_min(NEAREST)
    length = ((slab[1] - rays.origins[..., 2:]) / along - near).clamp_min(NEAREST) / samples
    steps = torch.arange(samples, dtype=near.dtype, device=near.device)
    where = 0.5 if noise is None else uniform_like(near.new_empty(*near.shape[:2], samples), noise)
    return near + length * (steps + where), length.expand(-1, -1, samples)
