"""What tracking left of a training frame's pose: six learned numbers a frame, which no avatar keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEP = 0.05
# Frames to each direction in which corrections are counted from what is known.
FRAMES_EACH = 8
SMALLEST = 1e-4
FARTHEST = 4.0  # standard deviations


class FrameCorrections(nn.Module):
    """A small affine motion of the head's plane a frame.

    Poses are tracked from landmarks and are off by a pixel here and there. A field that must explain such
    a frame blurs; one that may shift it does not. A frame of a rendered clip has no correction, so what the
    field could draw by itself must not become one: else heads that turn, or mouths that open, would be drawn
    where no frame shows them. The corrections are therefore counted from what of them goes, over the frames
    that are trained on, with what is known of a frame: their mean, and what is linear in `known`.

    Args:
        frames: T, frames of the dataset.
        fit: [N] numbers of those that are trained on.
        radius: metres, half the size of the head's space.
        known: [T, K] what the field may know of a frame, finite; None for nothing. Of few frames only the
            directions in which they differ most are taken, one to `FRAMES_EACH`.
    """

    fit: Tensor
    usual: Tensor
    pull: Tensor
    own: Tensor
    scales: Tensor

    def __init__(self, frames: int, fit: Tensor, radius: float, known: Tensor | None = None) -> None:
        super().__init__()
        self.radius = radius
        self.numbers = nn.Parameter(torch.zeros(frames, 6))
        self.register_buffer("fit", fit.clone())
        known = torch.zeros(frames, 0) if known is None else known
        usual = _directions(known, fit)
        pull = torch.zeros(usual.shape[1], frames).index_copy(1, fit, usual[fit].t())
        self.register_buffer("usual", usual, persistent=False)
        self.register_buffer("pull", pull, persistent=False)
        self.register_buffer("own", torch.ones(1, 1), persistent=False)
        scales = torch.tensor([STEP] * 4 + [STEP * radius] * 2)
        self.register_buffer("scales", scales, persistent=False)

    def of(self, frames: Tensor) -> Tensor:
        """[F, 6] corrections of frames [F]: a 2 x 2 matrix row by row, and a shift."""
        # As one product, whose gradient is one too.
        taken = -(self.usual[frames] @ self.pull)
        taken.scatter_add_(1, frames[:, None], self.own.expand(len(frames), 1))
        return taken @ self.numbers

    @torch.no_grad()
    def begin(self, frames: Tensor) -> None:
        """Frames [F] that are trained on from now on begin without a correction."""
        self.numbers[frames] = self.usual[frames] @ (self.pull @ self.numbers)

    def turns(self, corrections: Tensor) -> Tensor:
        """[F, 6] corrections as `ops.aim_rays` takes them, in metres."""
        return corrections * self.scales

    @staticmethod
    def size(corrections: Tensor) -> Tensor:
        """Mean squared size of corrections [F, 6], to be kept small."""
        return corrections.square().sum(1).mean()


def _directions(known: Tensor, fit: Tensor) -> Tensor:
    """[T, R] float32: a constant, and principal components of `known` [T, K]; orthonormal over `fit` [N]."""
    count = max(1, len(fit))
    centred = known.double() - known[fit].double().mean(0)
    scaled = centred / centred[fit].square().mean(0).sqrt().clamp_min(1e-9)
    # A frame far from those that are trained on is not to be answered for by all their corrections.
    scaled = scaled.clamp(-FARTHEST, FARTHEST).index_copy(0, fit, scaled[fit])
    most = min(scaled.shape[1], count // FRAMES_EACH)
    constant = torch.full((len(known), 1), count**-0.5)
    if not most:
        return constant
    _, sizes, components = torch.linalg.svd(scaled[fit], full_matrices=False)
    kept = int((sizes[:most] > SMALLEST * count**0.5).sum())
    return torch.cat([constant, (scaled @ components[:kept].t() / sizes[:kept]).float()], 1)
