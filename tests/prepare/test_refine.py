"""Refinement of a dataset's poses by its pictures, on a speaker whose true poses are known."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset, write_dataset
from nldf_engine.geometry.rotations import exponential
from nldf_engine.prepare import RefineConfig
from nldf_engine.prepare.refine import FINAL_RATE, refine
from nldf_engine.training.optimizer import TableAdam


def spoil(source: Dataset, path: Path) -> Dataset:
    """A copy whose camera rolls and shifts by a third of a pixel in every frame, at random."""
    random = np.random.default_rng(0)
    count = len(source)
    turn = np.zeros((count, 3))
    turn[:, 2] = 0.004 * random.standard_normal(count)
    shift = 0.0015 * random.standard_normal((count, 3)) * [1, 1, 0]
    poses = source.poses.astype(np.float64).copy()
    rotation = exponential(turn)
    poses[:, :3] = rotation @ poses[:, :3]
    poses[:, :3, 3] += shift
    track = {
        "poses": poses.astype(np.float32), "landmarks": source.landmarks,
        "eye_openness": source.eye_openness, "valid": source.valid, **source.extra,
    }  # fmt: skip
    return write_dataset(
        path, replace(source.info), video=source.path / "video.mp4", labels=source.path / "parsing.mkv",
        background=source.background(), audio=source.audio(), track=track,
    )  # fmt: skip


def off(dataset: Dataset, truth: Dataset) -> float:
    """RMS, pixels, by which a face's middle is misplaced, its constant part left out."""

    def middle(poses: np.ndarray) -> np.ndarray:
        seen = np.einsum("tij,ti->tj", poses[:, :3, :3], np.array([0, 0, -0.08]) - poses[:, :3, 3])
        return truth.camera.fx * seen[:, :2] / seen[:, 2:]

    apart = middle(dataset.poses.astype(np.float64)) - middle(truth.poses.astype(np.float64))
    return float(np.sqrt(((apart - apart.mean(0)) ** 2).sum(1).mean()))


def test_spoilt_poses_are_corrected(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Spoilt poses come at least a quarter of the way back in one round; the tracked ones are kept."""
    spoilt = spoil(synthetic_dataset, tmp_path / "spoilt")
    before = off(spoilt, synthetic_dataset)
    figures = refine(spoilt.path, RefineConfig(size=64, rounds=1, steps=160, rays=2048))
    after = Dataset.open(spoilt.path)
    assert off(after, synthetic_dataset) < 0.75 * before
    np.testing.assert_array_equal(after.extra["poses_tracked"], spoilt.poses)
    after.check_unchanged()
    assert after.info.provenance["refined"]["config"]["rounds"] == 1
    told = json.loads((after.path / "report.json").read_text("utf-8"))["refined"]
    assert told["head_pixels"] == pytest.approx(figures.head_pixels, abs=1e-3)


def test_rates_fall_with_the_steps_alone(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that are moved between two legs of training do not count as steps of it."""
    rates: list[float] = []

    def step(self: TableAdam) -> None:
        rates.append(self.param_groups[0]["lr"] / self.param_groups[0]["first_lr"])

    monkeypatch.setattr(TableAdam, "step", step)
    copy = spoil(synthetic_dataset, tmp_path / "spoilt")
    refine(copy.path, RefineConfig(size=32, rounds=2, steps=5, rays=64))
    np.testing.assert_allclose(rates, FINAL_RATE ** (np.arange(10) / 10), rtol=1e-6)


def test_a_second_refinement_and_foreign_folders_are_refused(
    synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """What is refined already, or no dataset of ours, or too short, is refused and left as it was."""
    copy = tmp_path / "copy"
    shutil.copytree(synthetic_dataset.path, copy)
    with pytest.raises(ValueError, match="rounds: expected 1 to 20, got 0"):
        RefineConfig(rounds=0)
    track = {
        "poses": synthetic_dataset.poses, "landmarks": synthetic_dataset.landmarks,
        "eye_openness": synthetic_dataset.eye_openness, "valid": synthetic_dataset.valid,
    }  # fmt: skip
    kept = {"video": copy / "video.mp4", "labels": copy / "parsing.mkv"}
    rest = {"background": synthetic_dataset.background(), "audio": synthetic_dataset.audio()}
    once = write_dataset(
        tmp_path / "once", synthetic_dataset.info, **kept, **rest,
        track={**track, "poses_tracked": synthetic_dataset.poses},
    )  # fmt: skip
    with pytest.raises(FileProblem, match="refined already"):
        refine(once.path)
    hidden = {**track, "valid": np.arange(len(synthetic_dataset)) < 30}
    short = write_dataset(tmp_path / "short", synthetic_dataset.info, **kept, **rest, track=hidden)
    with pytest.raises(FileProblem, match="30 frames with a face, and 50 are needed"):
        refine(short.path)
    torch.testing.assert_close(
        torch.from_numpy(Dataset.open(short.path).poses), torch.from_numpy(short.poses)
    )
