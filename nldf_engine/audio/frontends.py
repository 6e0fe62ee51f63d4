"""What turns sound into features: the register of front-ends, and how one is named and stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nldf_engine.audio import mel, precomputed, pretrained
from nldf_engine.audio.windows import count_frames, windows

LARGEST_DIM = 1 << 16


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
    """One front-end.

    Args:
        summary: what it is, in a line.
        rows: float32 [R, D] at 50 Hz of samples [N] and a config.
        dim: D for a config.
        revision: raised whenever the same sound and config give other features, so that avatars and
            stored features of another revision are refused.
        stream: makes the rows' stream, and `look_ahead` tells how many samples beyond its moment a frame
            needs; None where rows depend on the whole sound.
    """

    summary: str
    rows: Callable[[np.ndarray, FrontendConfig], np.ndarray]
    dim: Callable[[FrontendConfig], int]
    revision: int = 1
    stream: Callable[[], RowStream] | None = None
    look_ahead: int = 0
    spectral_bands: bool = False


@dataclass(frozen=True)
class FrontendConfig:
    """How sound becomes features, as an avatar stores it.

    Args:
        name: one of FRONTENDS.
        source: folder or hub id of the weights ("wav2vec2", "hubert"); empty for the usual ones.
        dim: D, features a row; 0 where it is not known yet (see `resolve`).
        output: "hidden" states or "logits" of the network ("wav2vec2", "hubert").
        layer: which of its hidden states, 0 for what enters the transformer, -1 for the last one.

    Raises:
        TypeError, ValueError: a field of the wrong type or value; an unknown name lists the known ones.

    Example:
        >>> FrontendConfig.from_json(FrontendConfig("mel").to_json()) == FrontendConfig()
        True
    """

    name: str = "mel"
    source: str = ""
    dim: int = 0
    output: str = "hidden"
    layer: int = -1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            expected = int if field.type == "int" else str
            if not isinstance(value, expected) or isinstance(value, bool):
                raise TypeError(f"FrontendConfig.{field.name}: expected {field.type}, got {value!r}")
        if self.name not in FRONTENDS:
            raise ValueError(f"audio front-end: expected one of {', '.join(FRONTENDS)}, got {self.name!r}")
        if not 0 <= self.dim <= LARGEST_DIM:
            raise ValueError(f"FrontendConfig.dim: expected 0 to {LARGEST_DIM}, got {self.dim}")
        if self.output not in pretrained.OUTPUTS:
            expected_outputs = " or ".join(map(repr, pretrained.OUTPUTS))
            raise ValueError(f"FrontendConfig.output: expected {expected_outputs}, got {self.output!r}")
        if self.name == "mel":
            if self.dim not in (0, mel.BANDS):
                raise ValueError(f"FrontendConfig.dim: mel has {mel.BANDS} bands, got {self.dim}")
            object.__setattr__(self, "dim", mel.BANDS)

    def to_json(self) -> dict[str, Any]:
        """The fields, and the front-end's revision."""
        return {**dataclasses.asdict(self), "revision": FRONTENDS[self.name].revision}

    @classmethod
    def from_json(cls, value: Any) -> FrontendConfig:
        """The config that `to_json` wrote; fields that are not there have their default.

        Raises:
            ValueError: it is no object, has unknown fields or wrong values, or comes from another revision.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(value, dict) or not set(value) <= {*known, "revision"}:
            raise ValueError(
                f"audio front-end: expected an object with keys among {', '.join(known)}, got {value!r}"
            )
        try:
            config = cls(**{name: item for name, item in value.items() if name != "revision"})
        except TypeError as error:
            raise ValueError(str(error)) from error
        ours = FRONTENDS[config.name].revision
        if value.get("revision", ours) != ours:
            raise ValueError(
                f"audio front-end {config.name!r}: revision {value['revision']!r} was stored and this "
                f"version has {ours}; train again, or use the version that it was trained with"
            )
        return config

    def resolve(self) -> FrontendConfig:
        """The same config with `dim` known, which for pretrained networks reads their configuration.

        Raises:
            MissingBackend: the network is not there.
            ValueError: `dim` is known already, and is another.
        """
        dim = FRONTENDS[self.name].dim(self)
        if self.dim not in (0, dim):
            raise ValueError(
                f"audio front-end {self.name!r}: it makes {dim} features a row, and {self.dim} were "
                f"expected; its weights ({self.source or 'the usual ones'}) are others than those used before"
            )
        return dataclasses.replace(self, dim=dim)


FRONTENDS: dict[str, Frontend] = {
    "mel": Frontend(
        "29 log-mel bands, no weights, 0.17 s of delay",
        lambda samples, config: mel.mel_rows(samples),
        lambda config: mel.BANDS,
        stream=mel.MelStream,
        look_ahead=mel.LOOK_AHEAD,
        spectral_bands=True,
    ),
    "wav2vec2": Frontend("wav2vec 2.0 through transformers", pretrained.rows, pretrained.dim),
    "hubert": Frontend("HuBERT through transformers", pretrained.rows, pretrained.dim),
    "precomputed": Frontend("a features file instead of sound", precomputed.rows, precomputed.dim),
}


def features(
    samples: np.ndarray, frontend: FrontendConfig | str = "mel", frames: int | None = None
) -> np.ndarray:
    """Windows of features, one a video frame at 25 frames/s: float32 [T, 16, D].

    Rows come at 50 Hz; frame t, shown at t / 25 s, gets rows [2t - 8, 2t + 8), and rows outside of the
    sound are zeros.

    Args:
        samples: [N] float32, mono at 16 kHz (see `load_audio`).
        frontend: a config, or the name of one with its usual settings.
        frames: T; as many as the sound lasts (at least one) where it is None.

    Raises:
        ValueError, TypeError: a wrong shape, dtype or number, an unknown name, or not finite.
        MissingBackend: the front-end's library or weights are not there.

    Example:
        >>> features(np.zeros(16000, np.float32)).shape
        (25, 16, 29)
    """
    config = FrontendConfig(frontend) if isinstance(frontend, str) else frontend
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32:
        came = getattr(samples, "dtype", type(samples).__name__)
        raise TypeError(f"features: samples must be a float32 array (load_audio makes one), got {came}")
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"features: samples must be [N] and finite, got shape {list(samples.shape)}")
    made = FRONTENDS[config.name].rows(samples, config)
    if config.dim not in (0, made.shape[1]):
        raise ValueError(
            f"audio front-end {config.name!r}: it made {made.shape[1]} features a row, "
            f"and {config.dim} were expected"
        )
    return windows(made, count_frames(len(samples)) if frames is None else frames)
