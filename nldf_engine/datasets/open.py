"""Opens whatever folder serves as a dataset: one of ours, or one of another project."""

from __future__ import annotations

from pathlib import Path

from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.foreign.dataset import ForeignDataset
from nldf_engine.datasets.foreign.kinds import detect


def open_dataset(path: str | Path) -> Dataset:
    """Opens a dataset folder, or a folder of AD-NeRF, DFRF, RAD-NeRF or ER-NeRF as it is.

    Everything is checked that can be checked without decoding the folder whole.

    Raises:
        FileProblem: the folder is neither, or something in it is missing, damaged, of the wrong shape or
            newer than this version.
    """
    path = Path(path)
    if not (path / "dataset.json").exists() and detect(path) is not None:
        return ForeignDataset.open(path)
    return Dataset.open(path)
