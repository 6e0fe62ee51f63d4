"""What tracking left of a training frame's pose: six learned numbers a frame, which no avatar keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
    usual: Tensor
    own: Tensor
    scales: Tensor

    def __init__(self, frames: int, fit: Tensor, radius: float) -> None:
        super().__init__()
        self.radius = radius
        self.numbers = nn.Parameter(torch.zeros(frames, 6))
        self.register_buffer("fit", fit.clone())
        # What takes the mean off, a row for all frames; and what a frame's own number counts.
        usual = torch.zeros(1, frames).index_add(1, fit, torch.full((1, len(fit)), -1.0 / len(fit)))
        self.register_buffer("usual", usual, persistent=False)
        self.register_buffer("own", torch.ones(1, 1), persistent=False)
        scales = torch.tensor([STEP] * 4 + [STEP * radius] * 2)
        self.register_buffer("scales", scales, persistent=False)

    def of(self, frames: Tensor) -> Tensor:
        """[F, 6] corrections of frames [F]: a 2 x 2 matrix row by row, and a shift."""
        # As one product, whose gradient is one too.
        taken = self.usual.repeat(len(frames), 1)
        taken.scatter_add_(1, frames[:, None], self.own.expand(len(frames), 1))
        return taken @ self.numbers

    @torch.no_grad()
    def begin(self, frames: Tensor) -> None:
        """Frames [F] that are trained on from now on begin without a correction."""
        self.numbers[frames] = self.numbers[self.fit].mean(0)

    def turns(self, corrections: Tensor) -> Tensor:
        """[F, 6] corrections as `ops.aim_rays` takes them, in metres."""
        return corrections * self.scales

    @staticmethod
    def size(corrections: Tensor) -> Tensor:
        """Mean squared size of corrections [F, 6], to be kept small."""
        return corrections.square().sum(1).mean()
