"""How long a frame takes: avatars in turns on the same frames, so that a slow spell hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine import Engine
from nldf_engine.datasets.dataset import Dataset

FRAMES = 12


def race(avatars: Mapping[str, Path], data: Dataset, device: str = "auto") -> dict[str, dict[str, Any]]:
    """Seconds a frame of each avatar, and how many multiply-adds its network takes for a ray.

    Whole frames, from audio windows to pixels, of held-out frames spread evenly, all at the smallest avatar's
    size; the first is made once more beforehand, to warm up. Times are medians; `over_first` is the median
    over the frames of the first avatar's time over this one's, which holds on a busy machine too.

    Args:
        avatars: folders by name; the first is the one that the others are compared with.
        data: the dataset that they were trained on.
        device: where they render.
    """
    engines = {name: Engine.load(path, device) for name, path in avatars.items()}
    held = data.indices("heldout")
    chosen = held[np.linspace(0, len(held) - 1, min(FRAMES, len(held))).astype(int)]
    size = min(engine.avatar.camera.width for engine in engines.values())
    times: dict[str, list[float]] = {name: [] for name in engines}
    for number in [int(chosen[0]), *map(int, chosen)]:
        for name, engine in engines.items():
            times[name].append(_frame(engine, data, number, size))
    first = times[next(iter(times))][1:]
    return {
        name: {
            "seconds_per_frame": statistics.median(times[name][1:]),
            "over_first": statistics.median(_ratios(first, times[name][1:])),
            "macs_per_ray": engine.avatar.portrait.head.macs,
            "frames": len(chosen), "size": size,
        }
        for name, engine in engines.items()
    }  # fmt: skip


def _frame(engine: Engine, data: Dataset, number: int, size: int) -> float:
    at = slice(number, number + 1)
    features, torso = data.audio_features(engine.avatar.frontend)[at], data.torso_motion()
    clip = engine.render(
        features, data.poses[at], eyes=data.eye_openness[at], size=size,
        torso=None if torso is None else torso[at],
    )  # fmt: skip
    began = time.perf_counter()
    clip.frames[0]
    return time.perf_counter() - began


def _ratios(first: Sequence[float], this: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(first, this, strict=True)]
