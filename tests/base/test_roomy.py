"""Bytes that need not stay in memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.base import roomy
from nldf_engine.datasets import dataset as datasets
from nldf_engine.datasets.dataset import Dataset

posix = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate on this system")


@posix
def test_large_arrays_are_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads as it was written, through torch too; the file has no name and its place is that of TMPDIR."""
    monkeypatch.setattr(roomy.tempfile, "tempdir", str(tmp_path))
    made = roomy.roomy_bytes((3, 5, 7), large=100)
    assert isinstance(made, np.memmap) and not list(tmp_path.iterdir())
    made[1] = 9
    held = torch.from_numpy(made)
    held[2, 0, 0] = 4
    assert int(held.sum()) == 9 * 35 + 4 == int(made.sum())
    assert type(roomy.roomy_bytes((3, 5, 7))) is np.ndarray
    assert roomy.roomy_bytes((0, 5), large=0).shape == (0, 5)


@posix
def test_a_full_disk_leaves_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file has no room, the array is in memory."""

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(roomy.os, "posix_fallocate", full)
    assert type(roomy.roomy_bytes((3, 5), large=1)) is np.ndarray


@posix
def test_a_dataset_reads_the_same(synthetic_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames and labels of a dataset too large for memory are those of a small one."""
    fresh = Dataset.open(synthetic_dataset.path)
    monkeypatch.setattr(datasets, "roomy_bytes", lambda shape: roomy.roomy_bytes(shape, large=1))
    frames, labels = fresh.frames(32), fresh.labels(32)
    assert isinstance(frames, np.memmap) and isinstance(labels, np.memmap)
    assert np.array_equal(frames, synthetic_dataset.frames(32))
    assert np.array_equal(labels, synthetic_dataset.labels(32))


@posix
@pytest.mark.parametrize("full_at", [0, 1, 2])
def test_what_grows_is_held_in_memory_or_in_a_file(monkeypatch: pytest.MonkeyPatch, full_at: int) -> None:
    """Rows come back as they were added, also behind the step to a file, and where the disk fills up."""
    reserve, calls = os.posix_fallocate, iter(range(1, 100))

    def room(*given: int) -> None:
        if next(calls) == full_at:
            raise OSError(28, "No space left on device")
        reserve(*given)

    monkeypatch.setattr(roomy.os, "posix_fallocate", room)
    monkeypatch.setattr(roomy, "_RESERVED", 100)
    rows = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    held = roomy.Growing(large=800)
    for begin in range(0, 500, 7):
        held.add(rows[begin : begin + 7])
    made = held.take()
    assert held.count == 500 and np.array_equal(made, rows)
    assert isinstance(made, np.memmap) == (full_at == 0)
    roomy.let_go(made)
    assert np.array_equal(made, rows)
    small = roomy.Growing()
    small.add(rows)
    assert type(small.take()) is np.ndarray and np.array_equal(small.take(), rows)
    assert roomy.Growing().take().shape == (0, 0)
