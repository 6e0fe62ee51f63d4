"""Querying a field where its rays may meet what it draws, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.base.timing import stage
from nldf_engine.rendering.fields import RayColors, RayField, Rays
from nldf_engine.rendering.region import HeadRegion

# Network evaluations at once: enough for the matrix products, few enough to stay near the cache.
EVALUATIONS = {"cpu": 8192, "cuda": 1 << 19}
FEWEST_RAYS = 64


def chunk_rays(field: RayField, device: torch.device) -> int:
    """How many rays to give a field at once on a device."""
    return max(FEWEST_RAYS, EVALUATIONS.get(device.type, 8192) // field.samples_per_ray)


@dataclass(frozen=True)
class RegionColors:
    """A field's answer for the rays of one frame that fall into its region.

    Args:
        order: [P] int32, all rays, those in the region first.
        color: [n, 3] premultiplied, of the first n.
        opacity: [n].
    """

    order: Tensor
    color: Tensor
    opacity: Tensor


def query_frame(
    field: RayField, region: HeadRegion, rays: Rays, code: Tensor, backend: str = "native",
    chunk: int | None = None,
) -> RegionColors:  # fmt: skip
    """Colours of one frame's rays that fall into a region, for rendering; the others are not evaluated.

    On CUDA this synchronises to read the number of rays.

    Args:
        field: the network.
        region: where it draws.
        rays: [1, P] of one frame.
        code: [C], the field's.
        backend: "native" or "reference".
        chunk: rays at once; what suits the device where None.
    """
    chunk = chunk or chunk_rays(field, code.device)
    with stage("rays"):
        chosen = region.select(rays.origins[0], rays.directions[0])
        order, count = ops.compact_rays(chosen, backend=backend)
        first = order[: int(count)]
        kept = rays.select(first)
    if not len(first):
        return RegionColors(order, code.new_zeros(0, 3), code.new_zeros(0))
    with stage("network"):
        parts = [field(part, code[None]) for part in kept.chunks(chunk)]
        color = torch.cat([part.color[0] for part in parts])
        return RegionColors(order, color, torch.cat([part.opacity[0] for part in parts]))


def query_region(field: RayField, region: HeadRegion, rays: Rays, code: Tensor) -> RayColors:
    """Colours of rays [F, P] under codes [F, C], zero outside of a region; with gradients."""
    with torch.no_grad():
        inside = region.select(rays.origins, rays.directions)
    return field.of_inside(rays, code, inside)
