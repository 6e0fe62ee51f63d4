"""Two speakers of one script: the second says and does what the first does, in other colours."""

from __future__ import annotations

import pytest
import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.training.scene import RayScene, Scenes


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """As `synthetic_dataset`, shorter and in other colours: exact pairs of one expression."""
    config = SyntheticConfig(seconds=3.0, size=64, seed=1, looks=3, audio_frontend="mel")
    return make_synthetic_dataset(tmp_path_factory.mktemp("twin") / "speaker", config)


@pytest.fixture
def scenes(synthetic_dataset: Dataset, twin: Dataset) -> Scenes:
    """Both at 32 pixels, of 100 and 75 frames."""
    return Scenes(
        [RayScene(data, 32, FrontendConfig(), torch.device("cpu")) for data in (synthetic_dataset, twin)]
    )
