"""A second speaker, and a base that both taught."""

from __future__ import annotations

from pathlib import Path

import pytest

from nldf_engine.datasets.dataset import Dataset
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.training import TrainConfig, TrainResult, train

QUICK = {"speech_steps": "5", "spread": "off", "rays": "128"}


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """As `synthetic_dataset`, in other colours, and not square: another height, and so another camera."""
    config = SyntheticConfig(seconds=3.0, size=64, seed=1, looks=3, audio_frontend="mel")
    return make_synthetic_dataset(tmp_path_factory.mktemp("other") / "speaker", config)


@pytest.fixture(scope="session")
def base(synthetic_dataset: Dataset, other: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Of both speakers: avatars, history, and the base's file."""
    path: Path = tmp_path_factory.mktemp("base") / "base"
    config = TrainConfig(steps=40, overrides=QUICK)
    return train("dfrf-tiny", [synthetic_dataset.path, other.path], path, config)
