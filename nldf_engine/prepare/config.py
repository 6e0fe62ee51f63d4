"""The settings of `prepare`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nldf_engine.audio import FRONTENDS

SMALLEST, LARGEST = 64, 2048


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

    Raises:
        ValueError: a value is out of its range.
    """

    size: int = 512
    fps: float = 25.0
    audio_frontend: str = "mel"
    margin: float = 2.3
    smoothing: float = 0.2
    crf: int = 14

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= LARGEST or self.size % 2:
            raise ValueError(
                f"PrepareConfig: size must be even and in {SMALLEST}..{LARGEST}, got {self.size}"
            )
        if self.fps != 25.0:
            raise ValueError(f"PrepareConfig: fps must be 25, which the audio windows assume, got {self.fps}")
        known = [name for name in FRONTENDS if name != "precomputed"]
        if self.audio_frontend and self.audio_frontend not in known:
            came = repr(self.audio_frontend)
            raise ValueError(f"PrepareConfig: audio_frontend must be one of {', '.join(known)}, got {came}")
        if not 1.3 <= self.margin <= 6:
            raise ValueError(f"PrepareConfig: margin must be in 1.3..6, got {self.margin}")
        if not 0 <= self.smoothing <= 100 or not 0 <= self.crf <= 40:
            raise ValueError("PrepareConfig: smoothing must be in 0..100 and crf in 0..40")

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return asdict(self)
