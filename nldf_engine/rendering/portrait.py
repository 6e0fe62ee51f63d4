"""A portrait: background, torso and head made into one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.base.timing import stage
from nldf_engine.nn.planes import PlanesModule
from nldf_engine.rendering.cameras import Camera
from nldf_engine.rendering.fields import Field, Rays
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
        self._half_size: tuple[object, float] | None = None

    def pixels(self, camera: Camera) -> Tensor:
        """[H*W, 2] pixel centres, made once for a camera."""
        key = (camera, str(self.region.occupancy.device))
        if key not in self._grids:
            self._grids = {key: camera.pixels(self.region.occupancy.device)}
        return self._grids[key]

    def _seen(
        self, camera: Camera, pose: Tensor, code: Tensor, backend: str, chunk: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels in compact order [H W], and colors [n, 3] and opacities [n] of the first n: the field's.

        On CUDA the number of rays that meet the head is waited for.
        """
        chunk = chunk or chunk_rays(self.field, pose.device)
        with stage("rays"):
            rays = frame_rays(camera, pose[None], self.pixels(camera)[None], backend)
            order, count = ops.compact_rays(
                self.region.select(rays.origins[0], rays.directions[0]), backend=backend
            )
            chosen = order[: int(count)]
            kept = Rays(rays.origins.index_select(1, chosen), rays.directions.index_select(1, chosen))
        if not len(chosen):
            return order, pose.new_zeros(0, 3), pose.new_zeros(0)
        with stage("network"):
            parts = [self.field(part, code[None]) for part in kept.chunks(chunk)]
            color = torch.cat([part.color[0] for part in parts])
            return order, color, torch.cat([part.opacity[0] for part in parts])

    @torch.no_grad()
    def head(
        self, camera: Camera, pose: Tensor, code: Tensor, backend: str, chunk: int | None,
        under: Layer | None = None,
    ) -> Layer:  # fmt: skip
        """The head over a layer (over nothing where None): pose [4, 4], code [C], `chunk` rays at a time."""
        order, colors, opacity = self._seen(camera, pose, code, backend, chunk)
        with stage("composite"):
            behind = None
            if under is not None:
                behind = under.color.reshape(-1, 3).contiguous(), under.alpha.reshape(-1).contiguous()
            color, alpha = ops.composite_rays(colors, opacity, order, behind, backend=backend)
        return Layer(color.view(camera.height, camera.width, 3), alpha.view(camera.height, camera.width))

    def behind(self, camera: Camera, motion: Tensor, pose: Tensor) -> Layer:
        """The torso's layer under `motion` [2, 3] and `pose` [4, 4]; empty where the avatar has no torso."""
        if not self.torso.shows():
            empty = motion.new_zeros(camera.height, camera.width)
            return Layer(empty[..., None].expand(-1, -1, 3), empty)
        points = self.pixels(camera)[None] / camera.width
        color, alpha = self.torso.sample(points, motion[None], pose[None])
        shape = (camera.height, camera.width)
        return Layer((color[0] * alpha[0, :, None]).view(*shape, 3), alpha[0].view(shape))

    @torch.no_grad()
    def layer(
        self, camera: Camera, pose: Tensor, code: Tensor, motion: Tensor,
        backend: str = "native", chunk: int | None = None,
    ) -> Layer:  # fmt: skip
        """Head over torso, for any background; rendering only, no gradient flows."""
        with stage("composite"):
            torso = self.behind(camera, motion, pose)
        return self.head(camera, pose, code, backend, chunk, torso)

    @torch.no_grad()
    def picture(
        self, camera: Camera, pose: Tensor, code: Tensor, motion: Tensor, background: Tensor,
        backend: str = "native", out: Tensor | None = None, canvas: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """[H, W, 3] uint8: the layer before an opaque background [H, W, 3] float32.

        A grid-encoded field with a learned torso, or none, is rendered in one pass: on the CPU, and on CUDA
        in precision "fp16".

        Args:
            out: uint8 to write into, on the CPU or the portrait's device; the result, where it is given.
            canvas: [H, W, 3] float32 for what other systems draw on the way.
        """
        if not self._in_one_pass(backend, pose, code, motion, background):
            picture = self._blended(camera, pose, code, motion, background, backend, canvas)
            with stage("pixels"):
                return to_uint8(picture, out)
        field: Any = self.field
        layer: Any = self.torso
        torso = layer.portrait_part(motion, pose) if self.torso.shows() else None
        # Without the check of the inverse, which would wait for the device.
        inverse = torch.linalg.inv_ex(motion[:, :2]).inverse
        shift = torch.cat([inverse.flatten(), motion[:, 2]])
        view = ops.PortraitView(pose.contiguous(), camera.intrinsics(pose.device), self._half(), shift)
        head = field.portrait_part(pose, code, self.region.occupancy)
        with stage("network"):
            if out is None or out.device == background.device:
                return ops.render_portrait(view, head, torso, background, out)
            return out.copy_(ops.render_portrait(view, head, torso, background))

    def _half(self) -> float:
        """The region's half size, read off its device once a change."""
        size = self.region.half_size
        if size.device.type == "cpu" or size.is_inference():
            return float(size)
        state = (size.data_ptr(), size._version)
        if self._half_size is None or self._half_size[0] != state:
            self._half_size = (state, float(size))
        return self._half_size[1]

    @torch.no_grad()
    def _blended(
        self, camera: Camera, pose: Tensor, code: Tensor, motion: Tensor, background: Tensor,
        backend: str, out: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """[H, W, 3] float32, in `out` where given: `layer(...).over(background)`, without making a layer."""
        order, color, opacity = self._seen(camera, pose, code, backend, None)
        with stage("composite"):
            picture = torch.empty_like(background) if out is None else out
            if self.torso.shows():
                points = self.pixels(camera)[None] / camera.width
                plate, alpha = self.torso.sample(points, motion[None], pose[None])
                flat, shape = background.view(-1, 3), (camera.height * camera.width, 3)
                torch.lerp(flat, plate[0], alpha[0, :, None].expand(shape), out=picture.view(shape))
            else:
                picture.copy_(background)
            pixels, chosen = picture.view(-1, 3), order[: len(opacity)].long()
            pixels[chosen] = torch.addcmul(color, 1 - opacity[:, None], pixels[chosen])
            return picture

    def _in_one_pass(self, backend: str, *inputs: Tensor) -> bool:
        parts = [self.field, self.torso] if self.torso.shows() else [self.field]
        return backend == "native" and all(
            isinstance(part, PlanesModule)
            and not part.training
            and part.fusable(*inputs)
            and part.fits_frame()
            for part in parts
        )


def to_uint8(picture: Tensor, out: Tensor | None = None) -> Tensor:
    """Float [0, 1] to uint8, clamped and rounded to the nearest; into `out`, on any device, where given."""
    levels = (picture * 255).round_().clamp_(0, 255)
    if out is None:
        return levels.to(torch.uint8)
    # Off the device as bytes, a quarter of the floats.
    return out.copy_(levels if levels.device == out.device else levels.to(torch.uint8))
