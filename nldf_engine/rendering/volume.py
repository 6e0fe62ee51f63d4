"""Sampling along rays for volume rendering: even strata, and resampling where the coarse pass saw density."""

from __future__ import annotations

import torch
from torch import Tensor


def stratified_distances(
    rays: int, samples: int, near: float, far: float, like: Tensor, perturb: bool
) -> Tensor:
    """[rays, samples] increasing distances in [near, far], metres: one to a stratum of even length.

    The stratum's middle, or with `perturb` a place drawn evenly in it (NeRF, stratified sampling).
    """
    edges = torch.linspace(near, far, samples + 1, dtype=like.dtype, device=like.device)
    low, width = edges[:-1], edges[1] - edges[0]
    where = torch.rand(rays, samples, dtype=like.dtype, device=like.device) if perturb else 0.5
    return (low + width * where).expand(rays, samples)


def resample_distances(distances: Tensor, weights: Tensor, samples: int, perturb: bool) -> Tensor:
    """Draws distances by the inverse of the piecewise constant distribution of the coarse weights.

    Args:
        distances: [R, S] increasing, metres.
        weights: [R, S], transmittance times opacity of the coarse samples.
        samples: how many to draw for each ray.
        perturb: draw evenly at random; otherwise the quantiles' middles.

    Returns:
        [R, samples] increasing distances; no gradient flows through them (AD-NeRF 3.3).
    """
    middles = 0.5 * (distances[:, 1:] + distances[:, :-1])
    weights = weights[:, 1:-1].detach() + 1e-5
    cdf = torch.cumsum(weights / weights.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], -1)
    steps = (torch.arange(samples, dtype=cdf.dtype, device=cdf.device)).expand(len(cdf), samples)
    jitter = torch.rand_like(steps) if perturb else 0.5
    u = ((steps + jitter) / samples).clamp(max=1 - 1e-6).contiguous()
    above = torch.searchsorted(cdf.contiguous(), u, right=True).clamp(1, cdf.shape[1] - 1)
    cdf_low, cdf_high = cdf.gather(1, above - 1), cdf.gather(1, above)
    low, high = middles.gather(1, above - 1), middles.gather(1, above)
    share = (u - cdf_low) / (cdf_high - cdf_low).clamp_min(1e-8)
    return (low + share * (high - low)).detach()


def sample_lengths(distances: Tensor, far: float) -> Tensor:
    """[R, S]: the stretch of ray that each sorted sample stands for, metres; the last ends at `far`."""
    end = torch.full_like(distances[:, :1], far)
    return (torch.cat([distances[:, 1:], end], 1) - distances).clamp_min(0)
