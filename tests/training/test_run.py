"""Whole runs on the synthetic speaker: they learn, distil, resume to the same curve, refuse what is wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.data.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.training import TrainConfig, train


@pytest.fixture(scope="module")
def teacher(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher"
    train("adnerf-tiny", synthetic_dataset.path, path, TrainConfig(steps=40))
    return path


def test_a_student_learns_from_video_and_teacher(
    synthetic_dataset: Dataset, teacher: Path, tmp_path: Path
) -> None:
    """A distilled student gains over 2 dB on frames it does not train on, and its avatar renders."""
    result = train(
        "nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(teacher=teacher, steps=150, seed=3)
    )
    first, last = result.history[0], result.history[-1]
    assert result.validation_psnr == max(row["psnr"] for row in result.history) > first["psnr"] + 2
    assert last["pixel"] < 0.7 * first["pixel"] and last["segments"] < first["segments"]
    assert last["pool"] > 0
    avatar = Avatar.load(tmp_path / "me")
    assert avatar.provenance["dataset"] == synthetic_dataset.hash()
    assert len(avatar.poses) <= synthetic_dataset.info.splits["train"][1], "no held-out pose is kept"
    clip = Engine(avatar, torch.device("cpu")).render(np.zeros((3, 16, 29), np.float32))
    assert clip.frames[:].shape == (3, 32, 32, 3)
    assert (tmp_path / "me.training" / "curves.png").is_file()


def test_switched_off_parts_are_off(synthetic_dataset: Dataset, teacher: Path, tmp_path: Path) -> None:
    """Without distillation and pool, neither appears among the losses."""
    config = TrainConfig(teacher=teacher, steps=20, overrides={"distillation": "off", "active_pool": "off"})
    row = train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", config).history[-1]
    assert "segments" not in row and "pool" not in row and "pixel" in row


def test_other_settings_do_not_resume(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """A resumed run with another seed is refused, and says which setting differs."""
    config = TrainConfig(steps=10)
    train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    with pytest.raises(FileProblem, match="seed"):
        train(
            "nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=10, seed=1, resume=True)
        )


def test_the_same_seed_gives_the_same_avatar(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Two runs with one seed end in the same weights."""
    for name in ("a", "b"):
        train("adnerf-tiny", synthetic_dataset.path, tmp_path / name, TrainConfig(steps=12))
    a, b = (Avatar.load(tmp_path / name).portrait.state_dict() for name in ("a", "b"))
    for key, value in a.items():
        torch.testing.assert_close(value, b[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("preset", "config", "word"),
    [
        ("nldf-77", TrainConfig(), "preset"),
        ("nldf-tiny", TrainConfig(size=4), "size"),
        ("nldf-tiny", TrainConfig(steps=0), "steps"),
        ("nldf-tiny", TrainConfig(minutes=-1), "budget"),
        ("adnerf-tiny", TrainConfig(teacher=Path("t")), "teacher"),
    ],
)
def test_impossible_runs_are_refused_at_once(
    tmp_path: Path, preset: str, config: TrainConfig, word: str
) -> None:
    """Wrong settings are named before any file is touched."""
    with pytest.raises(ValueError, match=word):
        train(preset, tmp_path / "nowhere", tmp_path / "me", config)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_refused(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """A checkpoint cut short says so and gives the mend."""
    train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=5))
    path = tmp_path / "me.training" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileProblem, match="checkpoint"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=5, resume=True))
    shutil.rmtree(tmp_path / "me.training")
    train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=5))
