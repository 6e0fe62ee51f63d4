"""From windows of audio features to the motion of the mouth, for a stretch of consecutive frames.

Shapes: N stretches, T frames of one, W rows of a window, D features a row, K motion codes.

A minute of one speaker holds some seven hundred syllables, so the networks are small and their dropout is
large; what they gain over a linear regression comes from seeing neighbouring frames together and from
being trained on stretches, where the change from frame to frame counts as well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.nn.audio import neighbour_windows

# Frames before and after a frame that its motion depends on: 80 ms at 25 frames/s.
REACH = 2
BLOCK = 2048


class ClipNet(nn.Module):
    """A network over windows of audio features and their neighbours: what its kinds share.

    Args:
        dim_in: D.
        window: W, at least 1.
        dim_out: K.
        width: channels.

    Raises:
        ValueError: a size below one.
    """

    def __init__(self, dim_in: int, window: int, dim_out: int, width: int) -> None:
        super().__init__()
        if min(dim_in, window, dim_out, width) < 1:
            raise ValueError(
                f"{type(self).__name__}: sizes must be at least 1, got dim_in={dim_in}, window={window}, "
                f"dim_out={dim_out}, width={width}"
            )
        self.dim_in, self.window, self.dim_out = dim_in, window, dim_out

    def reset(self) -> None:
        """New random weights."""
        for part in self.modules():
            if isinstance(part, nn.Conv1d | nn.Linear):
                part.reset_parameters()

    @property
    def last(self) -> nn.Linear:
        """The layer that gives the codes."""
        raise NotImplementedError

    def of_windows(self, windows: Tensor) -> Tensor:
        """[B, C] of windows [B, W, D]."""
        raise NotImplementedError

    def of_neighbours(self, hidden: Tensor) -> Tensor:
        """[N, T, K] of what `of_windows` gives for stretches and their neighbours, [N, C, T + 2 REACH]."""
        raise NotImplementedError

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
        hidden = self.of_windows(windows.flatten(0, 1)).view(stretches, frames, -1).transpose(1, 2)
        return self.of_neighbours(hidden)

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
    """Convolutions over the rows of each window, then one over neighbouring frames.

    Args:
        dim_in, window, dim_out, width: see `ClipNet`.
        dropout: share of channels dropped while training.
    """

    def __init__(self, dim_in: int, window: int, dim_out: int, width: int = 96, dropout: float = 0.5) -> None:
        super().__init__(dim_in, window, dim_out, width)
        self.rows = nn.Sequential(
            nn.Conv1d(dim_in, width, 3, padding=1), nn.GELU(), nn.Dropout(dropout),
            nn.Conv1d(width, width, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv1d(width, width, 3, padding=1), nn.GELU(), nn.Dropout(dropout),
            nn.Flatten(), nn.Linear(width * ((window + 1) // 2), width), nn.GELU(), nn.Dropout(dropout),
        )  # fmt: skip
        self.neighbours = nn.Conv1d(width, width, 2 * REACH + 1)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, dim_out))

    @property
    def last(self) -> nn.Linear:
        """See `ClipNet`."""
        found = self.out[-1]
        assert isinstance(found, nn.Linear)
        return found

    def of_windows(self, windows: Tensor) -> Tensor:
        """See `ClipNet`."""
        made: Tensor = self.rows(windows.transpose(1, 2))
        return made

    def of_neighbours(self, hidden: Tensor) -> Tensor:
        """See `ClipNet`."""
        hidden = F.gelu(self.neighbours(hidden)) + hidden[..., REACH:-REACH]
        made: Tensor = self.out(hidden.transpose(1, 2))
        return made


class LipNet(ClipNet):
    """One linear layer over each window, then a convolution over neighbouring frames.

    For rows that hold a stretch of speech each, as those of a recogniser do: an eighth of `SpeechNet`'s work,
    and small enough to begin from what other speakers taught it.

    Args:
        dim_in, window, dim_out, width: see `ClipNet`.
        dropout: share of channels dropped while training.
    """

    def __init__(
        self, dim_in: int, window: int, dim_out: int, width: int = 128, dropout: float = 0.3
    ) -> None:
        super().__init__(dim_in, window, dim_out, width)
        self.rows = nn.Linear(window * dim_in, width)
        self.drop = nn.Dropout(dropout)
        self.neighbours = nn.Conv1d(width, width, 2 * REACH + 1)
        self.out = nn.Linear(width, dim_out)

    @property
    def last(self) -> nn.Linear:
        """See `ClipNet`."""
        return self.out

    def of_windows(self, windows: Tensor) -> Tensor:
        """See `ClipNet`."""
        made: Tensor = self.drop(F.gelu(self.rows(windows.flatten(1))))
        return made

    def of_neighbours(self, hidden: Tensor) -> Tensor:
        """See `ClipNet`."""
        hidden = F.gelu(self.neighbours(hidden)) + hidden[..., REACH:-REACH]
        made: Tensor = self.out(self.drop(hidden.transpose(1, 2)))
        return made


SPEECH_NETS: dict[str, type[SpeechNet] | type[LipNet]] = {"conv": SpeechNet, "lip": LipNet}
"""Networks from speech to motion, by the names that configs call them."""
