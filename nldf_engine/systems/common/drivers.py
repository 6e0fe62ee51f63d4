"""Drivers: what a frame's code is made of. Each turns conditions into its own part of the code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine.nn.audio import AudioEncoder
from nldf_engine.nn.hooks import on_load
from nldf_engine.rendering.fields import Conditions, Driver

# Open eyes have a lid gap of about a quarter of their width; the code holds it on a scale near one.
EYES_SCALE = 4.0


class AudioDriver(Driver, AudioEncoder):
    """AD-NeRF's audio net with attention over neighbouring frames (ad_nerf 3.2 and 3.6).

    Args:
        audio_dim: features a row of the audio window.
        code: size of the code.
        frames: neighbouring frames that the attention fuses.
        window: rows of the audio window.
        by_list: neighbours are those of a frame's list where the conditions' track "lists" names one.
    """

    def __init__(self, audio_dim: int, code: int, frames: int, window: int, by_list: bool = False) -> None:
        super().__init__(audio_dim, code, frames, window=window)
        self.dim, self.by_list = code, by_list

    @property
    def reach(self) -> tuple[int, int]:
        """See `Driver`."""
        return self.frames // 2, self.frames - self.frames // 2 - 1

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:  # type: ignore[override]
        """See `Driver`."""
        return self.encode_clip(conditions.audio, index, conditions.get("lists") if self.by_list else None)


class EyesDriver(Driver):
    """Eye openness, scaled."""

    dim = 1

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """See `Driver`."""
        return scale_eyes(conditions.eyes[index, None])


def scale_eyes(eyes: Tensor) -> Tensor:
    """Eye openness as codes hold it."""
    return EYES_SCALE * eyes


class IdentityDriver(Driver):
    """A learned code for each speaker of a run over several datasets.

    Buffer: `own`, the number of the speaker whose avatar this is; the conditions' track [T] int64 says
    another one.

    Args:
        speakers: how many.
        code: size of the code.
        track: name of that track.

    Loading a state whose `own` has no row in the table raises a `ValueError`.
    """

    own: Tensor

    def __init__(self, speakers: int, code: int, track: str = "identity") -> None:
        super().__init__()
        self.dim, self.track = code, track
        self.table = nn.Parameter(0.1 * torch.randn(speakers, code))
        self.register_buffer("own", torch.zeros((), dtype=torch.int64))
        on_load(self, _check_own)

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """See `Driver`."""
        speakers = conditions.get(self.track)
        numbers = self.own.expand(len(index)) if speakers is None else speakers[index]
        return self.table[numbers]


def _check_own(driver: IdentityDriver, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Before a state is loaded: the speaker's number is one of the table's.

    Raises:
        ValueError: it isn't.
    """
    number, speakers = state.get(f"{prefix}own"), len(driver.table)
    if number is not None and not 0 <= int(number) < speakers:
        raise ValueError(
            f"{prefix}own: expected the number of a speaker, 0 to {speakers - 1}, got {int(number)}"
        )
