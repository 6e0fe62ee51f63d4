"""A painted speaker: its pixels show the mouth gap, and its detector reads them back from the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from nldf_engine.evaluation.real_clip import RealClip
from nldf_engine.geometry.face_mesh import LIPS

SIZE, FRAMES, RATE = 48, 40, 16000
CENTRE = (24, 30)


def paint(gap: int, seed: int) -> np.ndarray:
    """A textured head with a white mouth, 16 wide and `gap` pixels open, on black."""
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    rng = np.random.default_rng(seed)
    frame[8:44, 10:38] = rng.integers(60, 140, (36, 28, 3))
    top = CENTRE[1] - gap // 2
    frame[top : top + gap, CENTRE[0] - 8 : CENTRE[0] + 8] = 255
    return frame


class PixelDetector:
    """Finds the mouth as the bright rows of the middle column; no head, no face."""

    closed = 0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        points = np.full((478, 2), np.nan, np.float32)
        if frame[:, CENTRE[0]].max() < 30:
            return points
        bright = np.flatnonzero(frame[:, CENTRE[0] - 4 : CENTRE[0] + 4].mean(axis=(1, 2)) > 190)
        top, bottom = (bright[0], bright[-1] + 1) if len(bright) else CENTRE[1:] * 2
        points[:] = CENTRE
        upper, lower = list(LIPS[::2]), list(LIPS[1::2])
        points[upper, 1], points[lower, 1] = top, bottom
        points[[61, 291], 0] = CENTRE[0] - 8, CENTRE[0] + 8
        points[13], points[14] = (CENTRE[0], top), (CENTRE[0], bottom)
        points[33], points[263] = (14, 16), (34, 16)
        return points * (512 / SIZE)

    def close(self) -> None:
        PixelDetector.closed += 1


@dataclass
class Painter:
    """A renderer whose mouth follows the features; `change` degrades its frames, `lag` delays its lips."""

    change: Callable[[np.ndarray], np.ndarray] = lambda frame: frame
    lag: int = 0
    calls: list[int] = field(default_factory=list)
    backend: str = "reference"
    device: str = "cpu"

    def __call__(self, features: np.ndarray, poses: np.ndarray, eyes: np.ndarray) -> Iterable[np.ndarray]:
        self.calls.append(len(features))
        gaps = np.roll(features[:, 0, 0], self.lag)
        for gap, pose in zip(gaps, poses, strict=True):
            yield self.change(paint(int(gap), int(pose[0, 3])))


@pytest.fixture
def painted() -> RealClip:
    """40 frames of 48x48 with a wandering mouth; frames 5 and 6 are not valid and show another's face."""
    rng = np.random.default_rng(2)
    gaps = np.clip(np.round(6 + 5 * np.sin(np.arange(FRAMES) * 0.7) + rng.normal(0, 1, FRAMES)), 0, 12)
    valid = np.ones(FRAMES, bool)
    valid[5:7] = False
    poses = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    poses[:, 0, 3] = np.arange(FRAMES)
    frames = np.stack([paint(int(gap), index) for index, gap in enumerate(gaps)])
    frames[5:7] = 255 - paint(12, 99)
    frames[5:7, 14:40, 20:30] = paint(12, 99)[14:40, 20:30]
    landmarks = np.stack([PixelDetector()(frame) for frame in frames]) * (SIZE / 512)
    labels = np.zeros((FRAMES, SIZE, SIZE), np.uint8)
    labels[:, 8:44, 10:38] = 1
    features = np.broadcast_to(gaps.astype(np.float32)[:, None, None], (FRAMES, 16, 29)).copy()
    samples = np.sin(np.arange(FRAMES * RATE // 25) * 0.1).astype(np.float32)

    def play() -> Iterator[np.ndarray]:
        return iter(frames)

    return RealClip(
        play, labels, landmarks, valid, features, poses, np.ones(FRAMES, np.float32), samples, RATE, 25.0, 160
    )


@pytest.fixture
def closing(painted: RealClip) -> RealClip:
    """The painted clip with a mouth three pixels less open: now and then it is closed."""
    features = np.maximum(painted.features - 3, 0)
    frames = np.stack(list(Painter()(features, painted.poses, painted.eyes)))
    landmarks = np.stack([PixelDetector()(frame) for frame in frames]) * (SIZE / 512)
    return replace(painted, frames=lambda: iter(frames), features=features, landmarks=landmarks)


@pytest.fixture
def painter() -> type[Painter]:
    """The renderer's class."""
    return Painter


@pytest.fixture
def pixel_detector() -> type[PixelDetector]:
    """The detector's class."""
    return PixelDetector


@pytest.fixture
def without() -> Callable[..., RealClip]:
    """Changes fields of a clip."""
    return replace
