"""Whole runs on the synthetic speaker: they learn, distil, resume to the same curve, refuse what is wrong."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.data.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.training import TrainConfig, train
from nldf_engine.training.checkpoint import read_state


@pytest.fixture(scope="module")
def teacher(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher"
    train("adnerf-tiny", synthetic_dataset.path, path, TrainConfig(steps=40))
    return path


def mean_frame_psnr(dataset: Dataset, size: int) -> float:
    """What the average training picture scores on the validation cut: the figure to beat."""
    frames = dataset.frames(size).astype(np.float64) / 255
    mean = frames[dataset.indices("fit")].mean(0)
    errors = ((frames[dataset.indices("validation")] - mean) ** 2).mean((1, 2, 3))
    return float(np.mean(-10 * np.log10(errors)))


def test_a_student_learns_from_video_and_teacher(
    synthetic_dataset: Dataset, teacher: Path, tmp_path: Path
) -> None:
    """A distilled student beats the average picture, its loss falls, and its avatar renders."""
    result = train(
        "nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(teacher=teacher, steps=150, seed=3)
    )
    assert result.validation_psnr > mean_frame_psnr(synthetic_dataset, 32)
    first, last = result.history[0], result.history[-1]
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


def test_a_killed_run_resumes_to_the_same_curve(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Ctrl-C in the middle, then --resume: the history equals that of a run that was left alone."""
    alone = train("nldf-tiny", synthetic_dataset.path, tmp_path / "alone", TrainConfig(steps=80))
    program = f"""
from nldf_engine.training import TrainConfig, train
train("nldf-tiny", {str(synthetic_dataset.path)!r}, {str(tmp_path / "cut")!r}, TrainConfig(steps=80))
"""
    run = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    events = tmp_path / "cut.training"
    deadline = time.monotonic() + 120
    while not (events / "validation.png").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    state = read_state(events / "checkpoint.safetensors")
    if state.finished:
        pytest.skip("the run ended before it could be interrupted; this machine is too fast for the test")
    assert 0 < state.step < 80 and not (tmp_path / "cut").exists()
    with pytest.raises(FileProblem, match="--resume"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "cut", TrainConfig(steps=80))
    resumed = train("nldf-tiny", synthetic_dataset.path, tmp_path / "cut", TrainConfig(steps=80, resume=True))
    assert [row["step"] for row in resumed.history] == [row["step"] for row in alone.history]
    for a, b in zip(alone.history, resumed.history, strict=True):
        assert a["psnr"] == pytest.approx(b["psnr"], abs=1e-3) and a["pixel"] == pytest.approx(
            b["pixel"], rel=1e-3
        )


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
        ("nldf-tiny", TrainConfig(steps=0), "budget"),
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
