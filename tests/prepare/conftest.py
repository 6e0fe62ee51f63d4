"""A real face to prepare from: a public photograph, cut out and moved before a made backdrop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from nldf_engine.faces import PersonMask
from nldf_engine.media.video import VideoWriter

SIDE, SECONDS = 320, 3.0


def backdrop(side: int = SIDE) -> np.ndarray:
    """A textured wall: what corners can be followed on."""
    rng = np.random.default_rng(5)
    coarse = cv2.resize(
        rng.uniform(70, 190, (14, 14, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
    )
    fine = cv2.resize(
        rng.uniform(-25, 25, (60, 60)).astype(np.float32), (side, side), interpolation=cv2.INTER_NEAREST
    )
    return np.clip(coarse + fine[..., None], 0, 255).astype(np.uint8)


class Speaker:
    """Frames of the photographed person, [S, S, 3], moved a little like a speaker."""

    def __init__(self) -> None:
        data = pytest.importorskip("skimage.data", reason="scikit-image with its photograph is not installed")
        photo = cv2.resize(data.astronaut()[0:300, 70:370], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        mask = PersonMask()(photo)
        self.photo, self.mask, self.wall = photo, np.clip(mask * 1.6 - 0.3, 0, 1), backdrop()

    def frame(self, time: float, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
        """The person at `time` seconds: swaying and nodding; `scale` and `shift` place them."""
        matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE), 3 * np.sin(3.0 * time), scale)
        matrix[:, 2] += (6 * np.sin(2.2 * time) + shift[0], 3 * np.sin(5 * time) + shift[1])
        person = cv2.warpAffine(
            self.photo, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        mask = cv2.warpAffine(self.mask, matrix, (SIDE, SIDE))[..., None]
        return (person * mask + self.wall * (1 - mask)).astype(np.uint8)


@pytest.fixture(scope="session")
def speaker() -> Speaker:
    return Speaker()


def speech(seconds: float, rate: int = 16000) -> np.ndarray:
    """Noise in syllables: loud enough to be no silence."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.1 * np.random.default_rng(0).normal(size=len(time)) * (np.sin(12 * time) > 0)).astype(
        np.float32
    )


Film = Callable[..., Path]


@pytest.fixture
def film(tmp_path: Path, speaker: Speaker) -> Film:
    """Writes a video of `picture(time)`, by default of the speaker."""

    def write(
        picture: Callable[[float], np.ndarray] | None = None,
        seconds: float = SECONDS,
        fps: float = 25.0,
        sound: bool = True,
        name: str = "film.mp4",
    ) -> Path:
        picture = picture or speaker.frame
        height, width = picture(0.0).shape[:2]
        heard = (speech(seconds), 16000) if sound else None
        with VideoWriter(tmp_path / name, width, height, fps, audio=heard, crf=10) as out:
            for k in range(round(seconds * fps)):
                out.write(picture(k / fps))
        return tmp_path / name

    return write
