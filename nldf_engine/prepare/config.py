"""The settings of `prepare`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nldf_engine.audio import FRONTENDS
from nldf_engine.base.clock import FPS
from nldf_engine.base.json import encode
from nldf_engine.base.seeds import check_seed

SMALLEST, LARGEST = 64, 2048
LONGEST_SHIFT = 5000  # ms
SHORTEST_MINUTES = 0.05


def _is_shift(text: str) -> bool:
    try:
        return abs(float(text)) <= LONGEST_SHIFT
    except ValueError:
        return False


@dataclass(frozen=True)
class RefineConfig:
    """How a dataset's poses are refined by its pictures.

    Args:
        size: width of the pictures, pixels; the dataset's where that is smaller.
        rounds: how often every frame is moved.
        steps: optimiser steps before each round.
        rays: rays a step.
        seed: of weights and sampling.

    Raises:
        ValueError: a number out of its range.
    """

    size: int = 256
    rounds: int = 3
    steps: int = 2000
    rays: int = 8192
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name, least, most in (
            ("size", 32, 1024), ("rounds", 1, 20), ("steps", 1, 100_000), ("rays", 64, 1 << 20),
        ):  # fmt: skip
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: expected {least} to {most}, got {getattr(self, name)}")


@dataclass(frozen=True)
class PrepareConfig:
    """How a video becomes a dataset.

    Args:
        size: width and height of the dataset's frames in pixels, even, 64 to 2048.
        fps: frames a second of the dataset. The audio windows of every model assume 25.
        audio_frontend: the front-end whose features are computed ahead ("" computes none).
        margin: side of the square crop as a multiple of the face's height (forehead to chin).
        smoothing: strength of the pose smoothing; a larger one lags behind quick nods. 0.2
            halves what changes from frame to frame, and passes what takes five frames or more.
        crf: quality of the stored video, lower is better and larger.
        sync: by how many ms the sound is moved later before it is learned from (negative: earlier), as text;
            "auto" moves it by as much as the lips are found to come after it, "off" never.
        minutes: of a longer video the most informative stretch of this length is prepared, see
            `prepare.stretch`.
        refine: whether the tracked poses are refined by the pictures at the end.
        refinement: how.

    Raises:
        ValueError: a value is out of its range.
    """

    size: int = 512
    fps: float = FPS
    audio_frontend: str = "whisper"
    margin: float = 2.3
    smoothing: float = 0.2
    crf: int = 14
    sync: str = "auto"
    minutes: float = 3.0
    refine: bool = True
    refinement: RefineConfig = field(default_factory=RefineConfig)

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= LARGEST or self.size % 2:
            raise ValueError(
                f"PrepareConfig: size must be even and in {SMALLEST}..{LARGEST}, got {self.size}"
            )
        if self.fps != FPS:
            raise ValueError(
                f"PrepareConfig: fps must be {FPS:g}, which the audio windows assume, got {self.fps}"
            )
        known = [name for name in FRONTENDS if name != "precomputed"]
        if self.audio_frontend and self.audio_frontend not in known:
            came = repr(self.audio_frontend)
            raise ValueError(f"PrepareConfig: audio_frontend must be one of {', '.join(known)}, got {came}")
        if not 1.3 <= self.margin <= 6:
            raise ValueError(f"PrepareConfig: margin must be in 1.3..6, got {self.margin}")
        if self.sync not in ("auto", "off") and not _is_shift(self.sync):
            raise ValueError(
                f"PrepareConfig: sync must be auto, off, or ms in -{LONGEST_SHIFT}..{LONGEST_SHIFT}, "
                f"got {self.sync!r}"
            )
        if not SHORTEST_MINUTES <= self.minutes < float("inf"):
            raise ValueError(
                f"PrepareConfig: minutes must be {SHORTEST_MINUTES:g} or more, got {self.minutes}"
            )
        if not 0 <= self.smoothing <= 100 or not 0 <= self.crf <= 40:
            raise ValueError("PrepareConfig: smoothing must be in 0..100 and crf in 0..40")

    def to_json(self) -> dict[str, Any]:
        """The fields that decide a dataset as tracked; a refinement has its own entry in the provenance."""
        return {name: value for name, value in encode(self).items() if name not in ("refine", "refinement")}
