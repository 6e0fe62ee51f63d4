"""Engines that the viewer's tests share, and a clock that stands until it is moved."""

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.apps.viewer.take import Take, silent_take, sound_take
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def bundled() -> Engine:
    return Engine.load(bundled_avatar())


@pytest.fixture(scope="session")
def tiny() -> Engine:
    return Engine(tiny_avatar(), torch.device("cpu"))


@pytest.fixture(scope="session")
def tone(bundled: Engine) -> Take:
    """A second of a tone."""
    time = np.arange(16000) / 16000
    return sound_take(bundled, ((0.3 * np.sin(2 * np.pi * 220 * time)).astype(np.float32), 16000), "tone")


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A speaker of 64 pixels and two seconds; not to be written to."""
    config = SyntheticConfig(seconds=2.0, size=64, seed=1, audio_frontend="mel")
    return make_synthetic_dataset(tmp_path_factory.mktemp("viewed") / "speaker", config)


@pytest.fixture
def silence(tiny: Engine) -> Take:
    return silent_take(tiny)
