"""What a front-end is: the settings that it reads, the rows that it makes, and what others may ask of these.

A front-end is one file that ends with its `Frontend`; `audio.frontends` lists those of this package and takes
those of others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

LARGEST_DIM = 1 << 16
LEAST_AHEAD, MOST_AHEAD = -6, 64


@dataclass(frozen=True)
class FrontendSettings:
    """A front-end by its name, and its settings: plain data, which each front-end checks for itself.

    Args:
        name: of the front-end.
        source: folder or hub id of the weights ("whisper", "wav2vec2", "hubert"); empty for the usual ones.
        dim: D, features a row; 0 where it is not known yet.
        output: "hidden" states or "logits" of the network ("wav2vec2", "hubert").
        layer: which of its hidden states, 0 for what enters the transformer, -1 for the last one; of a
            source for "whisper" how many of its blocks, -1 for half of them.
        ahead: rows of 20 ms beyond its moment that a frame's features take into account, an even number, for
            front-ends that have a choice ("whisper").
        weights: SHA-256 of the weights that features were made with, so that others are refused; empty where
            it is not known yet, or where the front-end has none of its own.

    Raises:
        TypeError: a field of the wrong type.
        ValueError: dim or ahead is out of range.
    """

    name: str = "mel"
    source: str = ""
    dim: int = 0
    output: str = "hidden"
    layer: int = -1
    ahead: int = 4
    weights: str = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            expected = int if field.type == "int" else str
            if not isinstance(value, expected) or isinstance(value, bool):
                raise TypeError(f"{type(self).__name__}.{field.name}: expected {field.type}, got {value!r}")
        if not 0 <= self.dim <= LARGEST_DIM:
            raise ValueError(f"{type(self).__name__}.dim: expected 0 to {LARGEST_DIM}, got {self.dim}")
        if not LEAST_AHEAD <= self.ahead <= MOST_AHEAD or self.ahead % 2:
            raise ValueError(
                f"{type(self).__name__}.ahead: expected an even number of rows from {LEAST_AHEAD} to "
                f"{MOST_AHEAD}, got {self.ahead}"
            )


class RowStream(Protocol):
    """Rows of a sound that is still arriving: those that `Frontend.rows` gives for the whole of it."""

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The rows [r, D] that these samples [n] float32 complete."""
        ...

    def finish(self) -> np.ndarray:
        """The rows that are left when the sound has ended."""
        ...


@dataclass(frozen=True)
class Frontend:
    """One front-end, and its traits.

    Args:
        summary: what it is, in a line.
        rows: float32 [R, D] at 50 Hz of samples [N] and the settings.
        dim: D: a number where it is the same for all settings, else what finds it out from them, which may
            read a network's configuration.
        revision: raised whenever the same sound and settings give other features, so that avatars and
            stored features of another revision are refused.
        stream: makes the rows' stream of the settings, and `look_ahead` says how many samples beyond its
            moment a frame needs; None where rows depend on the whole sound.
        check: raises ValueError where settings of its own are wrong; they are of the right types.
        from_sound: whether rows can be computed from sound; False for features that are read from files.
        spectral_bands: whether a row is the powers E_b of frequency bands, from low to high, on a log scale
            of 20 dB a unit over the level of the voice, as the front-end "mel" has it: feature_b = log10(1 +
            10^5 E_b / E_voice) / 2. Voices can be varied in such rows.
        levels: which columns of a row are such powers, so that speech activity can be read off them; None
            where there are none.
        level_delay: rows by which those columns come late.
        weights: SHA-256 of the weights of the settings; raises FileProblem where these name another one. None
            for front-ends without.
        chooses_ahead: whether `look_ahead` follows `FrontendSettings.ahead`.
    """

    summary: str
    rows: Callable[[np.ndarray, FrontendSettings], np.ndarray]
    dim: int | Callable[[FrontendSettings], int]
    revision: int = 1
    stream: Callable[[FrontendSettings], RowStream] | None = None
    look_ahead: Callable[[FrontendSettings], int] = lambda settings: 0
    check: Callable[[FrontendSettings], None] | None = None
    from_sound: bool = True
    spectral_bands: bool = False
    levels: slice | None = None
    level_delay: Callable[[FrontendSettings], int] = lambda settings: 0
    weights: Callable[[FrontendSettings], str] | None = None
    chooses_ahead: bool = False
