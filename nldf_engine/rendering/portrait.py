"""A portrait: background, torso and head made into one frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.nn.planes import PlanesModule
from nldf_engine.rendering.cameras import Camera
from nldf_engine.rendering.fields import Field, RayColors, Rays
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.rendering.torso import TorsoMotion

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


class Portrait(nn.Module):
    """A head field with its region, on a torso.

    Args:
        field: the system's network (see `rendering.fields.Field`).
        region: which rays the field is asked for.
        torso: the plate or layer behind the head.
    """

    def __init__(self, field: Field, region: HeadRegion, torso: TorsoMotion) -> None:
        super().__init__()
        self.field = field
        self.region = region
        self.torso = torso
        self._grids: dict[tuple[Camera, str], Tensor] = {}

    def pixels(self, camera: Camera) -> Tensor:
        """[H*W, 2] pixel centres, made once for a camera."""
        key = (camera, str(self.region.occupancy.device))
        if key not in self._grids:
            self._grids = {key: camera.pixels(self.region.occupancy.device)}
        return self._grids[key]

    def head(self, camera: Camera, pose: Tensor, code: Tensor, backend: str, chunk: int | None) -> Layer:
        """The head's layer of one frame: pose [4, 4], code [C], at most `chunk` rays at a time."""
        chunk = chunk or chunk_rays(self.field, pose.device)
        size = camera.height * camera.width
        rays = frame_rays(camera, pose[None], self.pixels(camera)[None], backend)
        chosen = self.region.select(rays.origins[0], rays.directions[0]).nonzero()[:, 0]
        color = pose.new_zeros(size, 3)
        alpha = pose.new_zeros(size)
        if len(chosen):
            kept = Rays(rays.origins[:, chosen], rays.directions[:, chosen])
            seen = RayColors.join([self.field(part, code[None]) for part in kept.chunks(chunk)])
            color[chosen] = seen.color[0]
            alpha[chosen] = seen.opacity[0]
        return Layer(color.view(camera.height, camera.width, 3), alpha.view(camera.height, camera.width))

    def behind(self, camera: Camera, motion: Tensor, pose: Tensor) -> Layer:
        """The torso's layer under `motion` [2, 3] and `pose` [4, 4]; empty where the avatar has no torso."""
        if not bool(self.torso.present):
            empty = motion.new_zeros(camera.height, camera.width)
            return Layer(empty[..., None].expand(-1, -1, 3), empty)
        color, alpha = self.torso.sample(self.pixels(camera)[None] / camera.width, motion[None], pose[None])
        shape = (camera.height, camera.width)
        return Layer((color[0] * alpha[0, :, None]).view(*shape, 3), alpha[0].view(shape))

    def layer(
        self, camera: Camera, pose: Tensor, code: Tensor, motion: Tensor,
        backend: str = "native", chunk: int | None = None,
    ) -> Layer:  # fmt: skip
        """Head over torso, for any background."""
        torso = self.behind(camera, motion, pose)
        head = self.head(camera, pose, code, backend, chunk)
        hidden = 1 - head.alpha[..., None]
        return Layer(head.color + hidden * torso.color, head.alpha + hidden[..., 0] * torso.alpha)

    def picture(
        self, camera: Camera, pose: Tensor, code: Tensor, motion: Tensor, background: Tensor,
        backend: str = "native", out: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """[H, W, 3] uint8, into `out` where it is given: the layer before an opaque background [H, W, 3].

        A grid-encoded field with a learned torso, or none, is rendered in one pass on the CPU.
        """
        if not self._in_one_pass(backend, pose, code, motion, background):
            picture = to_uint8(self.layer(camera, pose, code, motion, backend).over(background))
            return picture if out is None else out.copy_(picture)
        torso = self.torso.portrait_part(motion, pose) if bool(self.torso.present) else None
        shift = torch.cat([torch.linalg.inv(motion[:, :2]).flatten(), motion[:, 2]])
        half_size = float(self.region.half_size)
        view = ops.PortraitView(pose.contiguous(), camera.intrinsics(), half_size, shift)
        head = self.field.portrait_part(pose, code, self.region.occupancy)
        return ops.render_portrait(view, head, torso, background, out)

    def _in_one_pass(self, backend: str, *inputs: Tensor) -> bool:
        parts = [self.field, self.torso] if bool(self.torso.present) else [self.field]
        return backend == "native" and all(
            isinstance(part, PlanesModule) and not part.training and part.fusable(*inputs) for part in parts
        )


def to_uint8(picture: Tensor) -> Tensor:
    """Float [0, 1] to uint8, clamped and rounded to the nearest."""
    return (picture * 255).round_().clamp_(0, 255).to(torch.uint8)
