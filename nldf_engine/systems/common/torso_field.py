"""The torso as a field in canonical space (ad_nerf 3.4): it stands still and is told the head's pose.

The head's field moves with the head. What neck and shoulders do follows the head loosely, so their field
stays in one fixed pose's space and is told the head's pose beside its code, and how they stand is for it to
learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.base.timing import stage
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Rays
from nldf_engine.rendering.layer import ask_field
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.common.torso import TorsoMotion


@dataclass(frozen=True)
class TorsoFieldConfig:
    """How a torso's field stands in the frame.

    Args:
        in_front: draw it before the head, as AD-NeRF does. Behind the head it may go on under the chin, so
            that no pose opens a gap there.
        follows: send a pixel's ray through where the tracked motion found that pixel in the canonical frame;
            the field then learns what the motion leaves. Else the pose alone tells where the torso is.
    """

    in_front: bool = False
    follows: bool = False


class TorsoField(TorsoMotion):
    """A torso that is a field.

    Buffers: `pose` [4, 4], the canonical one, camera to head; `view` [4], the camera's fx, fy, cx, cy in
    units of the frame's width.

    Args:
        field: the network; its `encoder` makes codes of the head's codes and poses (`nn.pose.PoseEncoder`).
        config: see `TorsoFieldConfig`.
    """

    pose: Tensor
    view: Tensor

    def __init__(self, field: Any, config: TorsoFieldConfig | None = None) -> None:
        super().__init__()
        self.field = field
        self.config = config or TorsoFieldConfig()
        self.region = HeadRegion()
        self.register_buffer("pose", torch.tensor(np.identity(4, np.float32)))
        self.register_buffer("view", torch.tensor([1.0, 1.0, 0.5, 0.5]))

    @property
    def in_front(self) -> bool:
        """See `TorsoFieldConfig`."""
        return self.config.in_front

    @property
    def sampled(self) -> bool:
        """A field has no colours without a code."""
        return False

    @torch.no_grad()
    def place(self, camera: Camera, pose: Tensor, like: TorsoMotion) -> None:
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
        return Rays(*ops.generate_rays(poses, views, at.contiguous(), backend=self.backend))

    def codes(self, code: Tensor, poses: Tensor) -> Tensor:
        """The field's codes [F, C'] of the head's codes [F, C] and poses [F, 4, 4]."""
        return self.field.encoder(code, poses)

    @torch.no_grad()
    def draw(
        self, points: Tensor, motion: Tensor, pose: Tensor, code: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `TorsoMotion.draw`.

        Raises:
            ValueError: no code is given.
        """
        if code is None:
            raise ValueError("code: a torso that is a field needs the head's code, got None")
        self.field.backend = self.backend
        own = self.codes(code[None], pose[None])[0]
        order, color, opacity = ask_field(
            self.field, self.region, self.rays(points[None], motion[None]), own, self.backend
        )
        with stage("composite"):
            return ops.composite_rays(color, opacity, order, None, backend=self.backend)
