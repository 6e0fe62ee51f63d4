"""What a synthetic dataset or video is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nldf_engine.base.clock import FPS
from nldf_engine.base.json import encode
from nldf_engine.base.seeds import check_seed
from nldf_engine.synthetic.proportions import AS_MODELLED, Proportions
from nldf_engine.synthetic.voice.text import words_of_text

SMALLEST, LARGEST = 32, 1024
SHORTEST, LONGEST = 0.2, 3600.0


@dataclass(frozen=True)
class SyntheticConfig:
    """One synthetic speaker.

    Args:
        seconds: length, 0.2 to 3600.
        size: width and height of the frames in pixels, even, 32 to 1024.
        seed: of speech, voice and motion.
        text: what is said, over and over; None for babble.
        fps: frames a second, which must be 25: the audio windows of every model assume it.
        looks: which palette; None takes it from the seed.
        proportions: of the head.
        workers: processes that render. With more than one, a script must guard its entry by
            `if __name__ == "__main__":`, as `multiprocessing` asks.
        audio_frontend: what an avatar of it is trained with, unless the training says otherwise.

    Raises:
        TypeError: a value is of the wrong kind.
        ValueError: a value is out of its range, or the text holds nothing to say.
    """

    seconds: float = 20.0
    size: int = 256
    seed: int = 0
    text: str | None = None
    fps: float = FPS
    looks: int | None = None
    proportions: Proportions = AS_MODELLED
    workers: int = 1
    audio_frontend: str = "whisper"

    def __post_init__(self) -> None:
        for name in ("size", "seed", "workers"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"SyntheticConfig: {name} must be an integer, got {value!r}")
        check_seed(self.seed)
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float):
            raise TypeError(f"SyntheticConfig: seconds must be a number, got {self.seconds!r}")
        if not SHORTEST <= self.seconds <= LONGEST:
            raise ValueError(
                f"SyntheticConfig: seconds must be in {SHORTEST:g}..{LONGEST:g}, got {self.seconds}"
            )
        if not SMALLEST <= self.size <= LARGEST or self.size % 2:
            raise ValueError(
                f"SyntheticConfig: size must be even and in {SMALLEST}..{LARGEST}, got {self.size}"
            )
        if self.fps != FPS:
            raise ValueError(
                f"SyntheticConfig: fps must be {FPS:g}, which the audio windows assume, got {self.fps}"
            )
        if self.text is not None and not isinstance(self.text, str):
            raise TypeError(f"SyntheticConfig: text must be a string or None, got {type(self.text).__name__}")
        if self.text is not None:
            words_of_text(self.text)
        if self.workers < 1:
            raise ValueError(f"SyntheticConfig: workers must be at least 1, got {self.workers}")

    @property
    def frames(self) -> int:
        """T, at least 1."""
        return max(1, round(self.seconds * self.fps))

    @property
    def palette(self) -> int:
        """The palette's number."""
        return self.seed if self.looks is None else self.looks

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return encode(self)
