"""A backdrop that moves by itself: each frame's own, as far as the speaker leaves it in view."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.media.pictures import fill_hidden

COARSE = 48  # cells a side
CLEARANCE = 1  # cells about the speaker that do not count as clear


class MovingBackdrop:
    """What is behind the speaker in every frame.

    Against one still plate, head and torso would have to explain a backdrop that moves. Where a frame shows
    its backdrop clear of the speaker, that is taken as it is; near the speaker and behind, what surrounds
    them is carried on, coarsely.

    Args:
        frames: uint8 [T, H, W, 3].
        labels: uint8 [T, H, W], `datasets.dataset.LABELS`.
    """

    def __init__(self, frames: Tensor, labels: Tensor) -> None:
        self.frames = frames
        self.height, self.width = labels.shape[1:]
        rows, columns = min(COARSE, self.height), min(COARSE, self.width)
        self.clear = torch.empty(len(frames), rows, columns, dtype=torch.bool)
        self.around = torch.empty(len(frames), rows, columns, 3, dtype=torch.uint8)
        for number, (frame, label) in enumerate(zip(frames, labels, strict=True)):
            person = (label != LABELS["background"]).float()[None, None]
            cells = F.adaptive_max_pool2d(person, (rows, columns))
            self.clear[number] = F.max_pool2d(cells, 2 * CLEARANCE + 1, 1, CLEARANCE)[0, 0] == 0
            small = F.adaptive_avg_pool2d(frame.permute(2, 0, 1)[None].float(), (rows, columns))[0]
            picture = small.permute(1, 2, 0).round().to(torch.uint8).numpy()
            filled = fill_hidden(np.ascontiguousarray(picture), ~self.clear[number].numpy())
            self.around[number] = torch.from_numpy(filled)

    def behind(self, frames: Tensor, pixels: Tensor) -> Tensor:
        """[F, P, 3] float32 in [0, 1] at pixel numbers [F, P] of frames [F]."""
        y, x = pixels // self.width, pixels % self.width
        rows, columns = self.clear.shape[1:]
        cell = frames[:, None], y * rows // self.height, x * columns // self.width
        clear = self.clear[cell][..., None]
        shown = self.frames[frames[:, None], y, x].float()
        where = torch.stack([(2 * x + 1) / self.width, (2 * y + 1) / self.height], -1) - 1
        coarse = self.around[frames].permute(0, 3, 1, 2).float()
        near = F.grid_sample(coarse, where[:, None], "bilinear", "border", align_corners=False)
        return torch.where(clear, shown, near[:, :, 0].transpose(1, 2)) / 255
