"""From windows of audio features to the motion of the mouth, for a stretch of consecutive frames.

Shapes: N stretches, T frames of one, W rows of a window, D features a row, K motion codes.

A minute of one speaker holds some seven hundred syllables, so the networks are small and their dropout is
large; what they gain over a linear regression comes from seeing neighbouring frames together and from
being trained on stretches, where the change from frame to frame counts as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.nn.audio import neighbour_windows

# Frames before and after a frame that its motion depends on: 80 ms at 25 frames/s.
REACH = 2
BLOCK = 2048


class ClipNet(nn.Module, ABC):
    """A network over windows of audio features: a part over each, then a convolution over neighbours.

    Args:
        dim_in: D.
        window: W, at least 1.
        dim_out: K.
        width: channels.
        dropout: share of channels dropped while training.

    Raises:
        ValueError: a size below one.
    """

    def __init__(self, dim_in: int, window: int, dim_out: int, width: int, dropout: float) -> None:
        super().__init__()
        if min(dim_in, window, dim_out, width) < 1:
            raise ValueError(
                f"{type(self).__name__}: sizes must be at least 1, got dim_in={dim_in}, window={window}, "
                f"dim_out={dim_out}, width={width}"
            )
        self.dim_in, self.window, self.dim_out = dim_in, window, dim_out
        self.rows = self.over_window(width, dropout)
        self.neighbours = nn.Conv1d(width, width, 2 * REACH + 1)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, dim_out))

    @property
    def last(self) -> nn.Linear:
        """The layer that gives the codes."""
        return cast(nn.Linear, self.out[-1])

    @abstractmethod
    def over_window(self, width: int, dropout: float) -> nn.Sequential:
        """What makes [B, width] of windows as [B, D, W]."""

    def reset(self) -> None:
        """New random weights."""
        for part in self.modules():
            if isinstance(part, nn.Conv1d | nn.Linear):
                part.reset_parameters()

    def forward(self, windows: Tensor) -> Tensor:
        """[N, T, K] of windows [N, T + 2 REACH, W, D]: a stretch brings its neighbours along.

        Raises:
            ValueError: another shape.
        """
        if windows.dim() != 4 or tuple(windows.shape[2:]) != (self.window, self.dim_in):
            raise ValueError(
                f"{type(self).__name__}: windows must be [N, T + {2 * REACH}, {self.window}, {self.dim_in}], "
                f"got {list(windows.shape)}"
            )
        stretches, frames = windows.shape[:2]
        hidden = self.rows(windows.flatten(0, 1).transpose(1, 2)).view(stretches, frames, -1).transpose(1, 2)
        hidden = F.gelu(self.neighbours(hidden)) + hidden[..., REACH:-REACH]
        made: Tensor = self.out(hidden.transpose(1, 2))
        return made

    def encode_clip(self, features: Tensor, index: Tensor | None = None) -> Tensor:
        """[F, K] for the frames `index` [F] of a clip [T, W, D], all of them where None.

        Beyond the clip's ends there is silence.
        """
        if index is not None:
            return self(neighbour_windows(features, index, 2 * REACH + 1))[:, 0]
        every = torch.arange(-REACH, len(features) + REACH, device=features.device)
        pieces = []
        for first in range(0, len(features), BLOCK):  # an hour of speech in the memory of a minute
            near = every[first : first + BLOCK + 2 * REACH]
            pieces.append(self(neighbour_windows(features, near, 1)[:, 0][None])[0])
        return torch.cat(pieces)


class SpeechNet(ClipNet):
    """Convolutions over the rows of each window.

    Args:
        dim_in, window, dim_out, width, dropout: see `ClipNet`.
    """

    def __init__(self, dim_in: int, window: int, dim_out: int, width: int = 96, dropout: float = 0.5) -> None:
        super().__init__(dim_in, window, dim_out, width, dropout)

    def over_window(self, width: int, dropout: float) -> nn.Sequential:
        """See `ClipNet`."""
        return nn.Sequential(
            nn.Conv1d(self.dim_in, width, 3, padding=1), nn.GELU(), nn.Dropout(dropout),
            nn.Conv1d(width, width, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv1d(width, width, 3, padding=1), nn.GELU(), nn.Dropout(dropout),
            nn.Flatten(), nn.Linear(width * ((self.window + 1) // 2), width), nn.GELU(), nn.Dropout(dropout),
        )  # fmt: skip


class LipNet(ClipNet):
    """One linear layer over each window.

    For rows that hold a stretch of speech each, as a recogniser's do: a quarter of the multiply-adds of
    `SpeechNet` at their usual widths, and small enough to begin from what other speakers taught it.

    Args:
        dim_in, window, dim_out, width, dropout: see `ClipNet`.
    """

    def __init__(
        self, dim_in: int, window: int, dim_out: int, width: int = 128, dropout: float = 0.3
    ) -> None:
        super().__init__(dim_in, window, dim_out, width, dropout)

    def over_window(self, width: int, dropout: float) -> nn.Sequential:
        """See `ClipNet`."""
        return nn.Sequential(
            nn.Flatten(), nn.Linear(self.dim_in * self.window, width), nn.GELU(), nn.Dropout(dropout)
        )


SPEECH_NETS: dict[str, type[SpeechNet] | type[LipNet]] = {"conv": SpeechNet, "lip": LipNet}
"""Networks from speech to motion, by the names that configs call them."""
