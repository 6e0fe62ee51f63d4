"""The torso as a U-Net that completes a picture of the head alone (gaussian landmark 4.C, figure 4).

It takes the head over the background, and the background, and makes the whole frame: colours that begin as
that picture, and an opacity of the speaker that begins as the head's, so that any background may be behind
afterwards. What it sees is always the training video's background. Premultiplied colours are its frame less
what shows of that background, so that before the same background the frame comes out as it was made, however
unsure the opacity is. The head may stand before a plate that moves, as other torsos are: then the network has
to mend that picture, not to paint shoulders from memory.

Shapes: N pictures, levels 0 (the picture's size) to D (2^D times smaller).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.base.timing import stage
from nldf_engine.nn.deformable import DeformableConv
from nldf_engine.rendering.heads import Head
from nldf_engine.rendering.layer import Layer, View, resized
from nldf_engine.rendering.torsos import Torso
from nldf_engine.systems.common.torso import TorsoPlate

SLOPE = 0.2
# The head's opacity begins the picture's, held so far from 0 and 1 that its logit can be moved by training.
SURE = 1e-3
LARGEST_SIDE = 4096


@dataclass(frozen=True)
class UnetConfig:
    """A U-Net torso.

    Args:
        height, width: of the pictures that it makes, pixels; frames of other sizes are those, resized.
        widths: channels of the levels.
        deformable: how many of the lowest levels have a deformable convolution.
        groups: of it; they divide the channels of these levels.
        plate: the head is completed before a `TorsoPlate`; in the paper there is none.

    Raises:
        ValueError: a size that can't be meant.
    """

    height: int
    width: int
    widths: tuple[int, ...] = (32, 64, 128, 256, 256)
    deformable: int = 2
    groups: int = 8
    plate: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.height <= LARGEST_SIDE and 1 <= self.width <= LARGEST_SIDE):
            raise ValueError(f"torso.unet: expected sides of 1 to {LARGEST_SIDE} pixels, got {self}")
        if len(self.widths) < 2 or min(self.widths) < 1 or not 0 <= self.deformable < len(self.widths):
            raise ValueError(
                f"torso.unet: expected two levels or more, and fewer deformable ones, got {self}"
            )
        low = self.widths[len(self.widths) - self.deformable :]
        if self.groups < 1 or any(width % self.groups for width in low):
            raise ValueError(f"torso.unet: groups must divide the channels of deformable levels, got {self}")


class Unet(nn.Module):
    """[N, 6, H, W] to [N, 4, H, W]: strided convolutions down; nearest neighbours and convolutions up.

    Args:
        config: sizes.
    """

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        widths, first = config.widths, len(config.widths) - config.deformable
        self.stem = nn.Conv2d(6, widths[0], 3, padding=1)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)
        self.deformable = nn.ModuleDict(
            {str(level): DeformableConv(widths[level], config.groups) for level in range(first, len(widths))}
        )
        self.up = nn.ModuleList(nn.Conv2d(a + b, a, 3, padding=1) for a, b in reversed(pairs))
        self.out = nn.Conv2d(widths[0], 4, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """See the class; any height and width."""
        height, width = x.shape[2:]
        step = 1 << len(self.down)
        x = F.pad(x, (0, -width % step, 0, -height % step), mode="replicate")
        x = F.leaky_relu(self.stem(x), SLOPE)
        levels = []
        for level, layer in enumerate(self.down, 1):
            levels.append(x)
            x = F.leaky_relu(layer(x), SLOPE)
            if str(level) in self.deformable:
                x = x + self.deformable[str(level)](x)
        for layer, beside in zip(self.up, reversed(levels), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = F.leaky_relu(layer(torch.cat([beside, x], 1)), SLOPE)
        made: Tensor = self.out(x)[..., :height, :width]
        return made


class UnetTorso(Torso):
    """A torso that a U-Net draws about the finished head; the head's pixels are part of what it draws.

    Buffers: `background` [H, W, 3], the training video's.

    Args:
        config: sizes.
    """

    background: Tensor

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config = config
        self.network = Unet(config)
        self.plate = TorsoPlate(config.height, config.width) if config.plate else None
        self.register_buffer("background", torch.zeros(config.height, config.width, 3))

    def describe(self) -> dict[str, Any]:
        """See `Torso`."""
        return {"unet": asdict(self.config)}

    @torch.no_grad()
    def place(self, background: Tensor, like: TorsoPlate) -> None:
        """Sets the background [H, W, 3]; takes over a plate of the network's size, or its motion alone."""
        self.background.copy_(background)
        if self.plate is not None:
            self.plate.load_state_dict(like.state_dict())
        self.motion_weights.copy_(like.motion_weights)
        self.present.fill_(True)

    @torch.no_grad()
    def begun(self, view: View, code: Tensor, head: Layer) -> Layer:
        """What is completed: a head's layer of the network's size, before the plate where there is one."""
        return head if self.plate is None else head.over_layer(self.plate.draw(view, code))

    def complete(self, color: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Whole speakers of what is `begun`, with gradients.

        Args:
            color: [N, H, W, 3] premultiplied.
            alpha: [N, H, W].

        Returns:
            color [N, H, W, 3] of the frame, background included, not clamped, and the opacity's logit
            [N, H, W].
        """
        picture = color + (1 - alpha[..., None]) * self.background
        behind = self.background.expand_as(picture)
        made = self.network(torch.cat([picture, behind], -1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return picture + made[..., :3], made[..., 3] + torch.logit(alpha, SURE)

    def _about(self, view: View, code: Tensor, head: Layer) -> Layer:
        """The whole speaker about a head, all of the network's size."""
        begun = self.begun(view, code, head)
        with stage("network"):
            color, logit = self.complete(begun.color[None], begun.alpha[None])
            alpha = torch.sigmoid(logit[0])
            own = color[0] - (1 - alpha[..., None]) * self.background
            return Layer(torch.minimum(own.clamp_min(0), alpha[..., None]), alpha)

    def _own(self, view: View) -> View:
        """The view at the network's size."""
        if view.camera.width == self.config.width:
            return view
        return View(view.camera.scaled(self.config.width), view.pose, view.motion)

    @torch.no_grad()
    def draw(self, view: View, code: Tensor) -> Layer:
        """See `Torso`: what it draws where no head is."""
        if not self.shows():
            return self.empty(view)
        own = self._own(view)
        return self._at_size(view, self._about(own, code, self.empty(own)))

    @torch.no_grad()
    def with_head(self, view: View, code: Tensor, head: Head) -> Layer:
        """See `Torso`."""
        if not self.shows():
            return head.draw(view, code)
        own = self._own(view)
        return self._at_size(view, self._about(own, code, head.draw(own, code)))

    def blend_with_head(
        self, view: View, code: Tensor, head: Head, background: Tensor, out: Tensor
    ) -> Tensor:
        """See `Torso`."""
        return out.copy_(self.with_head(view, code, head).over(background))

    def _at_size(self, view: View, made: Layer) -> Layer:
        height, width = view.camera.height, view.camera.width
        return made if made.alpha.shape == (height, width) else resized(made, height, width)
