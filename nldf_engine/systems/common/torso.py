"""The torso as one soft-edged picture under an affine motion."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.rendering.torsos import SampledTorso

LARGEST_PLATE = 4096


class TorsoPlate(SampledTorso):
    """A torso that is one picture [H, W, 4].

    Args:
        height, width: size of the plate in pixels.

    Raises:
        ValueError: a side that is no integer of 1 to LARGEST_PLATE.
    """

    color: Tensor
    alpha: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        for side in (height, width):
            if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= LARGEST_PLATE:
                raise ValueError(f"torso: sides must be 1 to {LARGEST_PLATE} pixels, got {height}, {width}")
        self.register_buffer("color", torch.zeros(height, width, 3))
        self.register_buffer("alpha", torch.zeros(height, width))

    def describe(self) -> dict[str, Any]:
        """See `Torso`."""
        height, width = self.alpha.shape
        return {"height": int(height), "width": int(width)}

    def sample(self, points: Tensor, motion: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """See `SampledTorso`."""
        plate = self.on_plate(points, motion)
        height, width = self.alpha.shape
        grid = plate * plate.new_tensor([2.0, 2.0 * width / height]) - 1
        layer = torch.cat([self.color, self.alpha[..., None]], -1).permute(2, 0, 1)[None]
        # The plate is the same for all frames: one row of the grid a frame, one call for all.
        out = F.grid_sample(layer, grid[None], "bilinear", "border", align_corners=False)[0]
        return out[:3].permute(1, 2, 0), out[3]
