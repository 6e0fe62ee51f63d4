"""The torso as a field in canonical space (ad_nerf 3.4), conditioned on the head's pose.

The head's field moves with the head. Neck and shoulders follow the head loosely, so their field stays in the
space of one fixed pose, and learns from the head's pose, beside its code, where they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.base.timing import stage
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import RayField, Rays
from nldf_engine.rendering.heads import Head
from nldf_engine.rendering.layer import Layer, View
from nldf_engine.rendering.query import query_frame
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.rendering.torsos import Torso


@dataclass(frozen=True)
class TorsoFieldConfig:
    """How a torso's field is placed in the frame.

    Args:
        in_front: draw it in front of the head, as AD-NeRF does. Behind the head it may continue under the
            chin, so that no pose opens a gap there.
        follows: send a pixel's ray through where the tracked motion found that pixel in the canonical frame;
            the field then learns the residual motion. Otherwise the pose alone says where the torso is.
    """

    in_front: bool = False
    follows: bool = False


class TorsoField(Torso):
    """A torso that is a field.

    Buffers: `pose` [4, 4], the canonical one, camera to head; `view` [4], the camera's fx, fy, cx, cy in
    units of the frame's width.

    Args:
        field: the network; its `encoder` makes codes of the head's codes and poses (`nn.pose.PoseEncoder`).
        config: see `TorsoFieldConfig`.
    """

    pose: Tensor
    view: Tensor

    def __init__(self, field: RayField, config: TorsoFieldConfig | None = None) -> None:
        super().__init__()
        self.field, self.config = field, config or TorsoFieldConfig()
        self.region = HeadRegion()
        self.register_buffer("pose", torch.tensor(np.identity(4, np.float32)))
        self.register_buffer("view", torch.tensor([1.0, 1.0, 0.5, 0.5]))

    @property
    def in_front(self) -> bool:
        """See `TorsoFieldConfig`."""
        return self.config.in_front

    def describe(self) -> dict[str, Any]:
        """See `Torso`."""
        network = {"system": self.field.system, "config": asdict(self.field.config)}
        return {"field": {**network, "stands": asdict(self.config)}}

    def check_head(self, head: Head) -> None:
        """See `Torso`: the codes that it takes are the head's."""
        own = replace(self.field.config.conditions, head_pose=0)
        if own != head.config.conditions:
            raise ValueError(f"torso.field: expected the head's conditions beside head_pose, got {own}")

    @torch.no_grad()
    def place(self, camera: Camera, pose: Tensor, like: Torso) -> None:
        """Sets the canonical view, and takes over how the torso moves with the head.

        Args:
            camera: of the training video, at any size.
            pose: [4, 4], the canonical one.
            like: a torso whose motion was fitted.
        """
        self.pose.copy_(pose)
        self.view.copy_(camera.intrinsics() / camera.width)
        self.motion_weights.copy_(like.motion_weights)
        self.present.fill_(True)

    def rays(self, points: Tensor, motion: Tensor) -> Rays:
        """Canonical rays [F, P] of points [F, P, 2], units of the frame's width, under motion [F, 2, 3]."""
        at = self.on_plate(points, motion) if self.config.follows else points
        poses = self.pose.expand(len(at), 4, 4).contiguous()
        views = self.view.expand(len(at), 4).contiguous()
        both = ops.generate_rays(poses, views, at.contiguous(), backend=self.backend)
        return Rays(*both, poses[:, :3, 2])

    def codes(self, code: Tensor, poses: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """The field's codes [F, C'] of the head's codes [F, C] and poses [F, 4, 4]; see `PoseEncoder`."""
        return self.field.encoder(code, poses, noise)

    @torch.no_grad()
    def draw(self, view: View, code: Tensor) -> Layer:
        """See `Torso`."""
        if not self.shows():
            return self.empty(view)
        own = self.codes(code[None], view.pose[None])[0]
        rays = self.rays(view.points()[None], view.motion[None])
        found = query_frame(self.field, self.region, rays, own, self.backend)
        shape = view.camera.height, view.camera.width
        with stage("composite"):
            color, alpha = ops.composite_rays(
                found.color, found.opacity, found.order, None, backend=self.backend
            )
            return Layer(color.view(*shape, 3), alpha.view(shape))
