"""Clean edges over a new background: re-estimates opacity and foreground colour.

A field learns colours c and opacity A so that c + (1 - A) B is the video's pixel before the plate B. That
sum is reliable, its two parts less so: an opacity of 0.95 inside the head is not seen before the own plate,
and is a tint before a green one; colours at the rim hold some of the own plate's light. Here the sum is kept,
and both are re-estimated:

    P  = c + (1 - A) B                  before its own plate the picture stays as it is
    A' = A with its ends stretched;     near the background blended with the matting equation's answer
         (P - B) . (F - B) / |F - B|^2  for the colour F of the solid pixels around, as far as F is not B
    c' = P - (1 - A') B
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.rendering.layer import Layer

# Opacities below and above count as none and whole.
EMPTY, SOLID = 0.02, 0.90
# Solid pixels that lend their colour to the rim.
SURE = 0.88, 0.94
# How far from the background a pixel may be a mixture, as a share of the width; colours are fetched from so
# many pixels beyond that.
RIM, BEYOND = 3 / 256, 2
# Colours that differ from the plate's by less say little of a mixture.
CONTRAST = 0.15
# The matting equation's share where it is sure: the field's own opacity knows of strands that it does not.
SHARE = 0.6


def _levels(values: Tensor, low: float, high: float) -> Tensor:
    return ((values - low) / (high - low)).clamp_(0, 1)


def _box(channels: Tensor, reach: int) -> Tensor:
    """[C, H, W] summed over squares of 2 `reach` + 1 pixels, as differences of running sums."""
    for axis in (1, 2):
        size = channels.shape[axis]
        pads = [0, 0, reach + 1, reach] if axis == 1 else [reach + 1, reach]
        running = F.pad(channels, pads).cumsum(axis)
        channels = running.narrow(axis, 2 * reach + 1, size) - running.narrow(axis, 0, size)
    return channels


def _rim(alpha: Tensor, reach: int) -> Tensor:
    """[n] int64, flat numbers of the pixels within `reach` of the background and not far from solid ones."""
    empty = _box((alpha < 0.05).float()[None], reach)
    solid = _box((alpha > SURE[0]).float()[None], 2 * (reach + BEYOND))
    return ((empty > 0.5) & (solid > 0.5)).flatten().nonzero()[:, 0]


def clean_layer(layer: Layer, plate: Tensor) -> Layer:
    """The layer for another background than the one it was trained before.

    Args:
        layer: premultiplied colour [H, W, 3] and alpha [H, W].
        plate: [H, W, 3] float32, the avatar's own background.

    Returns:
        Layer: over `plate` it gives the same picture, but for what can't be (c' is held in [0, A']).
    """
    reach = max(1, round(RIM * layer.alpha.shape[1]))
    seen = layer.over(plate)
    alpha = _levels(layer.alpha, EMPTY, SOLID)
    rim = _rim(layer.alpha, reach)
    if len(rim):
        mixed = (layer.alpha < SURE[0]).float()[None]
        sure = (_box(mixed, 1) < 0.5).float() * _levels(layer.alpha, *SURE)  # and so are its neighbours
        spread = _box(torch.cat([seen.permute(2, 0, 1) * sure, sure]), reach + BEYOND)
        spread = spread.flatten(1)[:, rim].T
        own = plate.reshape(-1, 3)[rim]
        apart = spread[:, :3] / spread[:, 3:].clamp_min(1e-3) - own
        contrast = apart.square().sum(1)
        answer = ((seen.view(-1, 3)[rim] - own) * apart).sum(1) / contrast.clamp_min(1e-6)
        known = SHARE * (spread[:, 3] > 1) * contrast / (contrast + CONTRAST**2)
        flat = alpha.view(-1)
        flat[rim] = torch.lerp(flat[rim], answer.clamp_(0, 1), known)
    color = torch.addcmul(seen, alpha[..., None] - 1, plate).clamp_min_(0)
    return Layer(torch.minimum(color, alpha[..., None]), alpha)
