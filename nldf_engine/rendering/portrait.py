"""A portrait: background, torso and head made into one frame."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.base.timing import stage
from nldf_engine.geometry.cameras import Camera
from nldf_engine.nn.planes import PlanesModule
from nldf_engine.rendering.fields import Field
from nldf_engine.rendering.layer import Layer, ask_field, frame_rays
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.common.torso import TorsoMotion


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
        self._grids: dict[tuple[int, int, str], Tensor] = {}
        self._half_size: tuple[object, float] | None = None

    def pixels(self, camera: Camera) -> Tensor:
        """[H*W, 2] pixel centres, made once for a size."""
        key = (camera.width, camera.height, str(self.region.occupancy.device))
        if key not in self._grids:
            self._grids = {key: camera.pixels(self.region.occupancy.device)}
        return self._grids[key]

    def _seen(
        self, camera: Camera, pose: Tensor, code: Tensor, backend: str, chunk: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels in compact order [H W], and colors [n, 3] and opacities [n] of the first n: the field's.

        On CUDA the number of rays that meet the head is waited for.
        """
        with stage("rays"):
            rays = frame_rays(camera, pose[None], self.pixels(camera)[None], backend)
        return ask_field(self.field, self.region, rays, code, backend, chunk)

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

    def behind(self, camera: Camera, motion: Tensor, pose: Tensor, code: Tensor | None = None) -> Layer:
        """The torso's layer under `motion` [2, 3] and `pose` [4, 4]; empty where the avatar has no torso.

        `code` [C] is the head's; only a torso that is a field asks for it.
        """
        if not self.torso.shows():
            empty = motion.new_zeros(camera.height, camera.width)
            return Layer(empty[..., None].expand(-1, -1, 3), empty)
        color, alpha = self.torso.draw(self.pixels(camera) / camera.width, motion, pose, code)
        shape = (camera.height, camera.width)
        return Layer(color.view(*shape, 3), alpha.view(shape))

    @torch.no_grad()
    def layer(
        self, camera: Camera, pose: Tensor, code: Tensor, motion: Tensor,
        backend: str = "native", chunk: int | None = None,
    ) -> Layer:  # fmt: skip
        """Head over torso, or torso over head where it asks for that; rendering only, no gradient flows."""
        torso = self.behind(camera, motion, pose, code)
        if not self.torso.in_front:
            return self.head(camera, pose, code, backend, chunk, torso)
        head = self.head(camera, pose, code, backend, chunk)
        return Layer(torso.over(head.color), torso.alpha + (1 - torso.alpha) * head.alpha)

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
        """[H, W, 3] float32, in `out` where given: `layer(...).over(background)`.

        Before a plate, a layer of its own is not made on the way.
        """
        if not self.torso.sampled:
            picture = self.layer(camera, pose, code, motion, backend).over(background)
            return picture if out is None else out.copy_(picture)
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
