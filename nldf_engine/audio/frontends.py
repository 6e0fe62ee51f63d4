"""The register of front-ends, and how one of them is named and stored.

Another package brings a front-end by `register_frontend`, or, so that `nldf` finds it without an import, by
an entry point of the group "nldf_engine.frontends": its name is the front-end's, its object the `Frontend`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from nldf_engine.audio import mel, precomputed, pretrained, whisper
from nldf_engine.audio.interface import LEAST_AHEAD, MOST_AHEAD, Frontend, FrontendSettings
from nldf_engine.audio.windows import count_frames, windows
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.errors import MissingBackend
from nldf_engine.base.json import decode, encode

GROUP = "nldf_engine.frontends"

FRONTENDS: dict[str, Frontend] = {
    "whisper": whisper.FRONTEND,
    "mel": mel.FRONTEND,
    "wav2vec2": pretrained.WAV2VEC2,
    "hubert": pretrained.HUBERT,
    "precomputed": precomputed.FRONTEND,
}
"""The front-ends of this package, and those that were registered; see `register_frontend`."""


def register_frontend(name: str, frontend: Frontend) -> None:
    """Makes a front-end known by a name, which configs, avatars and files of features are called by.

    Raises:
        TypeError: it is no `Frontend`.
        ValueError: another one has this name, or the name is not of a-z, 0-9, _ and -.
    """
    if not isinstance(frontend, Frontend):
        raise TypeError(f"audio front-end {name!r}: expected a Frontend, got {type(frontend).__name__}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"audio front-end: expected a name of a-z, 0-9, _ and -, got {name!r}")
    if FRONTENDS.setdefault(name, frontend) is not frontend:
        raise ValueError(f"audio front-end {name!r}: there is one of this name already; choose another")


def find_frontend(name: str) -> Frontend:
    """The front-end of a name: a registered one, or one that an installed package brings.

    Raises:
        ValueError: there is none; the message lists the known ones.
        MissingBackend: the package that brings it can't be imported.
    """
    if name not in FRONTENDS:
        for entry in entry_points(group=GROUP, name=name):
            try:
                brought = entry.load()
            except (ImportError, AttributeError) as error:
                raise MissingBackend(
                    f"the audio front-end {name!r} of {entry.value} can't be loaded ({error})",
                    "install its package again",
                ) from error
            register_frontend(name, brought)
    if name not in FRONTENDS:
        raise ValueError(f"FrontendConfig.name: expected one of {', '.join(FRONTENDS)}, got {name!r}")
    return FRONTENDS[name]


@dataclass(frozen=True)
class FrontendConfig(FrontendSettings):
    """How sound becomes features, as an avatar stores it: `FrontendSettings` that the front-end has accepted.

    Args:
        name: one of FRONTENDS.
        source: folder or hub id of the weights ("whisper", "wav2vec2", "hubert"); empty for the usual ones.
        dim: D, features a row; 0 where it is not known yet (see `resolve`).
        output: "hidden" states or "logits" of the network ("wav2vec2", "hubert").
        layer: which of its hidden states, 0 for what enters the transformer, -1 for the last one; of a
            source for "whisper" how many of its blocks, -1 for half of them.
        ahead: rows of 20 ms that a frame looks ahead ("whisper"), an even number.
        weights: SHA-256 of the weights; empty where it is not known yet (see `resolve`).

    Raises:
        TypeError, ValueError: a field of the wrong type or value; an unknown name lists the known ones.

    Example:
        >>> FrontendConfig.from_json(FrontendConfig("mel").to_json()) == FrontendConfig()
        True
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = self.kind
        if kind.check is not None:
            kind.check(self)
        if isinstance(kind.dim, int):
            if self.dim not in (0, kind.dim):
                raise ValueError(
                    f"FrontendConfig.dim: {self.name} makes {kind.dim} features a row, got {self.dim}"
                )
            object.__setattr__(self, "dim", kind.dim)

    @property
    def kind(self) -> Frontend:
        """The front-end itself, with its traits."""
        return find_frontend(self.name)

    @classmethod
    def parse(cls, text: str) -> FrontendConfig:
        """The front-end of "NAME" or "NAME:SOURCE", as a command line has it.

        Example:
            >>> FrontendConfig.parse("whisper:weights/whisper-small").source
            'weights/whisper-small'
        """
        name, _, source = text.partition(":")
        return cls(name, source=source)

    def looking_ahead(self, seconds: float) -> FrontendConfig:
        """The same front-end with as long a look-ahead as `seconds` allow.

        Raises:
            ValueError: it can't do with so little, or has no choice and needs more.
        """
        kind = self.kind
        if kind.stream is None:
            raise ValueError(f"look_ahead: the audio front-end {self.name!r} needs the whole sound")
        choices = range(LEAST_AHEAD, MOST_AHEAD + 1, 2) if kind.chooses_ahead else [self.ahead]
        fitting = [dataclasses.replace(self, ahead=ahead) for ahead in choices]
        needed = [kind.look_ahead(one) / SAMPLE_RATE for one in fitting]
        if seconds < needed[0] - 1e-9:
            raise ValueError(
                f"look_ahead: the audio front-end {self.name!r} needs {1000 * needed[0]:.0f} ms at least for "
                f"its features, got {1000 * seconds:.0f} ms"
            )
        return [one for one, need in zip(fitting, needed, strict=True) if need <= seconds + 1e-9][-1]

    def to_json(self) -> dict[str, Any]:
        """The fields, and the front-end's revision."""
        return {**encode(self), "revision": self.kind.revision}

    @classmethod
    def from_json(cls, value: Any) -> FrontendConfig:
        """The config that `to_json` wrote; fields that are not there have their default.

        Raises:
            ValueError: it is no object, has unknown fields or wrong values, or comes from another revision.
        """
        fields = {k: v for k, v in value.items() if k != "revision"} if isinstance(value, dict) else value
        config = decode(cls, fields, "audio front-end")
        ours = config.kind.revision
        if value.get("revision", ours) != ours:
            raise ValueError(
                f"audio front-end {config.name!r}: revision {value['revision']!r} was stored and this "
                f"version has {ours}; train again, or use the version that it was trained with"
            )
        return config

    def resolve(self) -> FrontendConfig:
        """The same config with `dim` and `weights` known, which for networks reads what they are made of.

        Raises:
            MissingBackend: the network is not there.
            FileProblem: its files are damaged, or others than `weights` says.
            ValueError: `dim` is known already, and is another.
        """
        kind, found = self.kind, self
        if not isinstance(kind.dim, int):
            dim = kind.dim(self)
            if self.dim not in (0, dim):
                raise ValueError(
                    f"audio front-end {self.name!r}: it makes {dim} features a row, and {self.dim} were "
                    f"expected; its weights ({self.source or 'the usual ones'}) are others than those used "
                    "before"
                )
            found = dataclasses.replace(found, dim=dim)
        return found if kind.weights is None else dataclasses.replace(found, weights=kind.weights(self))


def prepared_frontend(audio: Mapping[str, Any]) -> FrontendConfig:
    """The front-end that a dataset's description of its sound names; "mel" where it names none."""
    return FrontendConfig(str(audio.get("frontend") or "mel"), dim=int(audio.get("dim", 0)))


def features(
    samples: np.ndarray, frontend: FrontendConfig | str = "mel", frames: int | None = None
) -> np.ndarray:
    """Windows of features, one a video frame at 25 frames/s: float32 [T, 16, D], read-only (see `windows`).

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
    made = config.kind.rows(samples, config)
    if config.dim not in (0, made.shape[1]):
        raise ValueError(
            f"audio front-end {config.name!r}: it made {made.shape[1]} features a row, "
            f"and {config.dim} were expected"
        )
    return windows(made, count_frames(len(samples)) if frames is None else frames)
