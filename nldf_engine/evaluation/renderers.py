"""What is scored: whatever turns audio features and poses into frames, an engine or a video file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from nldf_engine.base.results import key_of
from nldf_engine.engine import Engine


class Renderer(Protocol):
    """Turns audio features, poses and eye openness into frames.

    Optional attributes: `identity`, a hash of all that the frames depend on, without which nothing is cached;
    `recorded`, True where the frames exist already and no other audio can be tried.
    """

    backend: str
    device: str

    def __call__(self, features: np.ndarray, poses: np.ndarray, eyes: np.ndarray) -> Iterable[np.ndarray]:
        """Frames, one by one or as one array.

        Args:
            features: [T, 16, D] float32 audio windows.
            poses: [T, 4, 4] float32 camera-to-head.
            eyes: [T] float32 eye openness.

        Returns:
            T frames of uint8 [H, W, 3].
        """
        ...


class EngineRenderer:
    """An `Engine` as the renderer to score, at one size.

    Args:
        engine: a loaded engine.
        size: width in pixels.
        torso: [T, 2, 3] tracked torso motion of the clip's frames from its first one on, or None to have it
            predicted from the poses.
        upper: [T, E] tracked codes of brows, lids and gaze, likewise; or None for the avatar's own track.
        identity: hash of the avatar's files.
    """

    def __init__(
        self, engine: Engine, size: int, torso: np.ndarray | None = None, upper: np.ndarray | None = None,
        identity: str | None = None,
    ) -> None:  # fmt: skip
        self._engine, self._size, self._torso, self._upper = engine, size, torso, upper
        self.backend, self.device = engine.backend, str(engine.device)
        self.identity = None if identity is None else key_of(identity, size, torso, upper)

    def __call__(self, features: np.ndarray, poses: np.ndarray, eyes: np.ndarray) -> Any:
        """Lazy frames, uint8 [T, H, W, 3]."""
        moved = (None if values is None else values[: len(poses)] for values in (self._torso, self._upper))
        torso, upper = moved
        engine = self._engine
        return engine.render(features, poses, eyes=eyes, size=self._size, torso=torso, upper=upper).frames


class PlayedVideo:
    """A finished video as a renderer: the same frames whatever the conditions."""

    recorded = True
    backend, device = "file", "none"

    def __init__(self, frames: Callable[[], Iterator[np.ndarray]], identity: str) -> None:
        self._frames, self.identity = frames, identity

    def __call__(self, features: np.ndarray, poses: np.ndarray, eyes: np.ndarray) -> Iterator[np.ndarray]:
        """The frames, whatever the conditions."""
        return self._frames()
