"""Heads draw the speaker's head as a layer. A ray field with its region is one kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.base.timing import stage
from nldf_engine.ops import PortraitPart
from nldf_engine.rendering.fields import Bounds, Conditions, Driver, RayField
from nldf_engine.rendering.layer import Layer, View, Views, frame_rays
from nldf_engine.rendering.query import RegionColors, query_frame
from nldf_engine.rendering.region import HeadRegion


class Head(nn.Module, ABC):
    """The head of a portrait. Systems that render whole pictures subclass this one directly.

    Attributes:
        system: name of the system in the registry (`systems.registry`).
        config: of the system's network, a frozen dataclass.
        backend: "native" (compiled kernels) or "reference" (plain PyTorch, slow).
        precision: what the head's own layers compute in, beside its fused networks: "fp32" or one of
            `precisions`.
        precisions: those that they offer beyond "fp32".
        half_size: metres, half the width of the region on the plane z = 0 that a one-pass head covers.
    """

    system: str
    config: Any
    backend: str = "native"
    precision: str = "fp32"
    precisions: tuple[str, ...] = ()

    @property
    @abstractmethod
    def driver(self) -> Driver:
        """Maps a frame's conditions to its code."""
        ...

    def encode_frames(self, conditions: Conditions, index: Tensor | None = None) -> Tensor:
        """[N, C] codes of the frames `index` [N] of a clip (all of them where None)."""
        if index is None:
            index = torch.arange(len(conditions), device=conditions.audio.device)
        return self.driver(conditions, index)

    @abstractmethod
    def draw(self, view: View, code: Tensor, under: Layer | None = None) -> Layer:
        """The head's layer for a code [C], composited over the layer `under` where that is given."""
        ...

    def blend(self, view: View, code: Tensor, picture: Tensor) -> Tensor:
        """[H, W, 3] float32: the head composited over an opaque picture, in place."""
        return picture.copy_(self.draw(view, code).over(picture))

    def portrait_part(self, views: Views, codes: Tensor) -> PortraitPart | None:
        """The head as part of F frames that `ops.PortraitFrames` draws in one pass each, under codes [F, C];
        else None."""
        return None

    @property
    def half_size(self) -> float:
        """See the class; 0 for heads without a `portrait_part`."""
        return 0.0

    @property
    def macs(self) -> int:
        """Multiply-adds a ray or pixel, of weights only; 0 where unknown."""
        return 0


class RayHead(Head):
    """A ray field and the region that its rays are evaluated in.

    Args:
        field: the system's network.
        region: the rays that may meet the head; all others are culled.
    """

    def __init__(self, field: RayField, region: HeadRegion) -> None:
        super().__init__()
        self.field, self.region = field, region
        self.system, self.config = field.system, field.config
        self._half_size: tuple[object, float] | None = None

    @property
    def driver(self) -> Driver:
        """See `Head`."""
        return self.field.encoder

    @property
    def bounds(self) -> Bounds:
        """The depths between which the head is."""
        return self.field.config.bounds

    @property
    def macs(self) -> int:
        """See `Head`."""
        return self.field.macs

    def seen(self, view: View, code: Tensor, chunk: int | None = None) -> RegionColors:
        """The field's colours of the frame's rays in the region, evaluated `chunk` rays at a time."""
        with stage("rays"):
            rays = frame_rays(view.camera, view.pose[None], view.pixels()[None], self.backend)
        return query_frame(self.field, self.region, rays, code, self.backend, chunk)

    @torch.no_grad()
    def draw(self, view: View, code: Tensor, under: Layer | None = None, chunk: int | None = None) -> Layer:
        """See `Head`; `chunk` rays at a time."""
        found = self.seen(view, code, chunk)
        with stage("composite"):
            behind = None
            if under is not None:
                behind = under.color.reshape(-1, 3).contiguous(), under.alpha.reshape(-1).contiguous()
            color, alpha = ops.composite_rays(
                found.color, found.opacity, found.order, behind, backend=self.backend
            )
        shape = view.camera.height, view.camera.width
        return Layer(color.view(*shape, 3), alpha.view(shape))

    @torch.no_grad()
    def blend(self, view: View, code: Tensor, picture: Tensor) -> Tensor:
        """See `Head`; only the pixels in the region are touched."""
        found = self.seen(view, code)
        with stage("composite"):
            pixels, chosen = picture.view(-1, 3), found.order[: len(found.opacity)].long()
            pixels[chosen] = torch.addcmul(found.color, 1 - found.opacity[:, None], pixels[chosen])
            return picture

    def portrait_part(self, views: Views, codes: Tensor) -> PortraitPart | None:
        """See `Head`."""
        return self.field.portrait_part(views.poses, codes, self.region.occupancy)

    @property
    def half_size(self) -> float:
        """The region's half size, read from its device only when it has changed."""
        size = self.region.half_size
        if size.device.type == "cpu" or size.is_inference():
            return float(size)
        state = (size.data_ptr(), size._version)
        if self._half_size is None or self._half_size[0] != state:
            self._half_size = (state, float(size))
        return self._half_size[1]
