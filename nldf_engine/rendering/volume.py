"""Sampling along rays for volume rendering: where coarse samples lie, and the lengths that samples represent.

`ops.resample` adds samples where a coarse pass saw density. A `Sampling` says where the coarse samples of a
ray lie and at which quantiles further ones are drawn; `SAMPLINGS` names those that a field may be sampled by.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from nldf_engine.nn.noise import uniform_like
from nldf_engine.rendering.fields import Bounds, Rays

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


def sample_lengths(distances: Tensor, far: float | Tensor) -> Tensor:
    """[R, S]: the length of ray that each sorted sample represents, metres; the last ends at `far`, of all
    rays or [R, 1] of each."""
    end = torch.zeros_like(distances[:, :1]) + far
    return (torch.cat([distances[:, 1:], end], 1) - distances).clamp_min(0)


class Sampling(ABC):
    """Where the coarse samples of rays lie between two bounds, and at which quantiles fine ones are drawn.

    Args:
        bounds: near and far, metres.
        samples: S, coarse samples of a ray.
    """

    def __init__(self, bounds: Bounds, samples: int) -> None:
        self.bounds, self.samples = bounds, samples

    @abstractmethod
    def places(self, rays: Rays, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Increasing distances [F * P, S] of the coarse samples of rays [F, P], and where the last one ends,
        [F * P, 1]; metres. `noise` draws the places in training."""
        ...

    @abstractmethod
    def quantiles(self, like: Tensor, count: int, noise: torch.Generator | None = None) -> Tensor | None:
        """The `jitter` of `ops.resample` for `count` fine samples of each of the rays [R, S] `like`."""
        ...

    @abstractmethod
    def nearest(self, rays: Rays, distances: Tensor) -> Tensor:
        """[F * P, N] int64: the coarse sample, without noise, that stands for each distance [F * P, N]."""
        ...


class StrataSampling(Sampling):
    """Strata of even distance: their middles, and the middles of the quantiles' intervals.

    No place is drawn at either end of an interval, so that all samples stand for as much of the ray.
    """

    def places(self, rays: Rays, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """See `Sampling`."""
        count = rays.origins.shape[0] * rays.origins.shape[1]
        near, far = self.bounds.near, self.bounds.far
        distances = stratified_distances(count, self.samples, near, far, rays.origins, noise)
        return distances.contiguous(), rays.origins.new_full((count, 1), far)

    def quantiles(self, like: Tensor, count: int, noise: torch.Generator | None = None) -> Tensor | None:
        """See `Sampling`."""
        return None if noise is None else uniform_like(like.new_empty(len(like), count), noise)

    def nearest(self, rays: Rays, distances: Tensor) -> Tensor:
        """See `Sampling`."""
        near, far = self.bounds.near, self.bounds.far
        strata = (distances - near) * (self.samples / (far - near))
        return strata.long().clamp_(0, self.samples - 1)


class DepthSampling(Sampling):
    """Even depths along the camera's axis with both ends, and even quantiles with both ends.

    So NeRF's published code samples, and with it AD-NeRF's: near and far are depths, a ray's bounds are these
    times its length at depth 1, S places are near to far in S - 1 steps, and N quantiles 0 to 1 in N - 1.
    In training a place is drawn between the middles to both sides of it, and quantiles are drawn evenly.
    """

    def places(self, rays: Rays, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """See `Sampling`.

        Raises:
            ValueError: the rays have no axes.
        """
        lengths = self._lengths(rays)
        near, far = self.bounds.near, self.bounds.far
        share = torch.linspace(0, 1, self.samples, dtype=lengths.dtype, device=lengths.device)
        depths = (near * (1 - share) + far * share).expand(len(lengths), -1)
        if noise is not None:
            middles = (depths[:, 1:] + depths[:, :-1]) / 2
            low = torch.cat([depths[:, :1], middles], 1)
            high = torch.cat([middles, depths[:, -1:]], 1)
            depths = low + (high - low) * uniform_like(low.new_empty(low.shape), noise)
        return depths * lengths, far * lengths

    def quantiles(self, like: Tensor, count: int, noise: torch.Generator | None = None) -> Tensor | None:
        """See `Sampling`."""
        if noise is not None:
            return uniform_like(like.new_empty(len(like), count), noise)
        # Draw k of `resample` is at the quantile (k + jitter) / count: this one makes it k / (count - 1).
        share = torch.linspace(0, 1, count, dtype=like.dtype, device=like.device)
        return share.expand(len(like), count).contiguous()

    def nearest(self, rays: Rays, distances: Tensor) -> Tensor:
        """See `Sampling`."""
        near, far = self.bounds.near, self.bounds.far
        steps = (distances / self._lengths(rays) - near) * ((self.samples - 1) / (far - near))
        return (steps + 0.5).long().clamp_(0, self.samples - 1)

    @staticmethod
    def _lengths(rays: Rays) -> Tensor:
        """[F * P, 1]: how long each ray is where it has come to the depth 1."""
        if rays.axes is None:
            raise ValueError("rays: expected the cameras' axes, without which depth means nothing, got None")
        return 1 / (rays.directions * rays.axes[:, None]).sum(-1).view(-1, 1)


SAMPLINGS: dict[str, type[Sampling]] = {"strata": StrataSampling, "depths": DepthSampling}


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
