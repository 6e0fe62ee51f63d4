"""One layer of a frame: which rays a field is asked for, and the picture with opacity that they make."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.base.timing import stage
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Field, Rays
from nldf_engine.rendering.region import HeadRegion

# Network evaluations at once: enough for the matrix products, few enough to stay near the cache.
EVALUATIONS = {"cpu": 8192, "cuda": 1 << 19}
FEWEST_RAYS = 64


def chunk_rays(field: Field, device: torch.device) -> int:
    """How many rays to give a field at once on a device."""
    return max(FEWEST_RAYS, EVALUATIONS.get(device.type, 8192) // field.samples_per_ray)


@dataclass(frozen=True)
class Layer:
    """A picture with opacity: premultiplied color [H, W, 3] and alpha [H, W], float32 in [0, 1]."""

    color: Tensor
    alpha: Tensor

    def over(self, under: Tensor) -> Tensor:
        """[H, W, 3]: this layer before an opaque picture."""
        return self.color + (1 - self.alpha[..., None]) * under


def frame_rays(camera: Camera, pose: Tensor, pixels: Tensor, backend: str = "native") -> Rays:
    """Rays through `pixels` [F, P, 2] (x, y in pixels) of frames with `pose` [F, 4, 4]."""
    intrinsics = camera.intrinsics(pose.device).expand(len(pose), 4).contiguous()
    return Rays(*ops.generate_rays(pose.contiguous(), intrinsics, pixels.contiguous(), backend=backend))


def ask_field(
    field: Field, region: HeadRegion, rays: Rays, code: Tensor, backend: str = "native",
    chunk: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Colours of the rays that may meet what a field draws; the others are not asked for.

    On CUDA the number of rays that are asked for is waited for.

    Args:
        field: the network.
        region: where it draws.
        rays: [1, P] of one frame.
        code: [C], the field's.
        backend: "native" or "reference".
        chunk: rays at once; what suits the device where None.

    Returns:
        the rays in compact order [P] int32; colors [n, 3], premultiplied, and opacities [n] of the first n.
    """
    chunk = chunk or chunk_rays(field, code.device)
    with stage("rays"):
        chosen = region.select(rays.origins[0], rays.directions[0])
        order, count = ops.compact_rays(chosen, backend=backend)
        first = order[: int(count)]
        kept = Rays(rays.origins.index_select(1, first), rays.directions.index_select(1, first))
    if not len(first):
        return order, code.new_zeros(0, 3), code.new_zeros(0)
    with stage("network"):
        parts = [field(part, code[None]) for part in kept.chunks(chunk)]
        color = torch.cat([part.color[0] for part in parts])
        return order, color, torch.cat([part.opacity[0] for part in parts])


def straight(layer: Layer) -> Tensor:
    """[H, W, 4]: straight (not premultiplied) colour and alpha."""
    alpha = layer.alpha.clamp(0, 1)[..., None]
    return torch.cat([torch.where(alpha > 1 / 512, layer.color / alpha.clamp_min(1 / 512), 0.0), alpha], -1)
