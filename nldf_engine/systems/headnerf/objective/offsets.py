"""What a training frame shows beyond its tracked numbers: learned offsets of its codes, which no avatar
keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nldf_engine.systems.headnerf.codes import CodeSizes

OFFSET_CODES = ("expression", "illumination")


class FrameOffsets(nn.Module):
    """An offset of expression and illumination for each frame; they begin at none.

    Args:
        frames: T, of the video.
        sizes: of the codes.
    """

    def __init__(self, frames: int, sizes: CodeSizes) -> None:
        super().__init__()
        self.places = sizes.places()
        self.tables = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(frames, getattr(sizes, name))) for name in OFFSET_CODES}
        )

    def added(self, code: Tensor, frames: Tensor, share: Tensor) -> Tensor:
        """Codes [F, C] of frames [F] with their offsets times a share [F] of them."""
        full = torch.zeros_like(code)
        for name in OFFSET_CODES:
            full[:, self.places[name]] = self.tables[name][frames]
        return code + share[:, None] * full

    @torch.no_grad()
    def begin(self, frames: Tensor) -> None:
        """Frames [F] that are trained on from now on begin without an offset."""
        for name in OFFSET_CODES:
            self.tables[name][frames] = 0
