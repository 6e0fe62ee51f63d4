"""What every test may ask for: a small synthetic dataset, a real video where there is one, fixed seeds."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run side by side: one thread each, those that they start included, set before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from nldf_engine.datasets.dataset import Dataset
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset

SEED = 20240229
TESTS = Path(__file__).parent
# What compiles or trains.
LONG_FIRST = ("simt", "training", "systems", "bench", "prepare", "test_gpu_script.py")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Marks the cases of the `device` fixture that run on a CUDA device, as tests mark themselves that run
    nowhere else."""
    case = getattr(item, "callspec", None)
    if case is not None and case.params.get("device") == "cuda":
        item.add_marker(pytest.mark.device)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders whose files take a minute come first: at the end of a run no process waits for one of these.

    What torch.compile makes of the operations is tested from torch 2.5 on.
    """

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        return LONG_FIRST.index(folder) if folder in LONG_FIRST else len(LONG_FIRST)

    items.sort(key=place)
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5):
        for item in items:
            if item.name.startswith("test_compiles_as_one_graph"):
                item.add_marker(pytest.mark.skip("torch.compile of torch 2.4 can't trace checks that raise"))


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test starts from the same random state."""
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@pytest.fixture(autouse=True, scope="session")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's own configuration; programs that tests start inherit this."""
    os.environ["NLDF_CONFIG"] = str(tmp_path_factory.mktemp("configuration"))
    for name in ("NLDF_SIGN_CERT", "NLDF_SIGN_KEY", "NLDF_SIGN_PASSWORD"):
        os.environ.pop(name, None)


@pytest.fixture
def hangups() -> Iterator[None]:
    """SIGHUP ends a process, also where the tests themselves were started to ignore it (by nohup)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def synthetic_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A speaker of 64 pixels and 4 seconds with known ground truth; not to be written to."""
    config = SyntheticConfig(seconds=4.0, size=64, seed=1, audio_frontend="mel")
    return make_synthetic_dataset(tmp_path_factory.mktemp("synthetic") / "speaker", config)


@pytest.fixture(scope="session")
def real_video() -> Path:
    """A real person's video; the environment variable NLDF_REAL_VIDEO names it."""
    name = os.environ.get("NLDF_REAL_VIDEO", "")
    if not name:
        pytest.skip("NLDF_REAL_VIDEO is not set: it names a video of a real person talking")
    if not Path(name).is_file():
        pytest.skip(f"NLDF_REAL_VIDEO names {name}, and there is no such file")
    return Path(name)
