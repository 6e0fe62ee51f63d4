"""What tracking left of a training frame's pose: six learned numbers a frame, which no avatar keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nldf_engine.rendering.fields import Rays
from nldf_engine.rendering.region import plane_points

STEP = 0.05


class FrameCorrections(nn.Module):
    """A small affine motion of the head's plane a frame.

    Poses are tracked from landmarks and are off by a pixel here and there. A field that must explain such
    a frame blurs; one that may shift it does not. The corrections are counted from their mean over the
    frames that are trained on, so that a frame without one, as every frame of a rendered clip, is not off.

    Args:
        frames: T, frames of the dataset.
        fit: [N] numbers of those that are trained on.
        radius: metres, half the size of the head's space.
    """

    fit: Tensor

    def __init__(self, frames: int, fit: Tensor, radius: float) -> None:
        super().__init__()
        self.radius = radius
        self.numbers = nn.Parameter(torch.zeros(frames, 6))
        self.register_buffer("fit", fit.clone())

    def of(self, frames: Tensor) -> Tensor:
        """[F, 6] corrections of frames [F]: a 2 x 2 matrix row by row, and a shift."""
        return self.numbers[frames] - self.numbers[self.fit].mean(0)

    @torch.no_grad()
    def begin(self, frames: Tensor) -> None:
        """Frames [F] that are trained on from now on begin without a correction."""
        self.numbers[frames] = self.numbers[self.fit].mean(0)

    def move(self, rays: Rays, frames: Tensor) -> Rays:
        """The rays [F, P] of frames [F] through the places that the corrections move theirs to.

        The camera stays where it is: a field may look different from every place, and the corrections are
        not to reveal which frame this is.
        """
        numbers = STEP * self.of(frames)
        points = plane_points(rays.origins, rays.directions)
        moved = points + points @ numbers[:, :4].view(-1, 2, 2) + self.radius * numbers[:, None, 4:]
        goal = torch.cat([moved, torch.zeros_like(moved[..., :1])], -1)
        return Rays(rays.origins, torch.nn.functional.normalize(goal - rays.origins, dim=-1), rays.axes)

    def size(self, frames: Tensor) -> Tensor:
        """Mean squared size of the corrections of frames [F], to be kept small."""
        return self.of(frames).square().sum(1).mean()
