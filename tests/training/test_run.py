"""Whole runs on the synthetic speaker: they learn, distil, resume to the same curve, refuse what is wrong."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.avatar import Avatar
from nldf_engine.avatar.provenance import Consent
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.training import TrainConfig, distill, find_preset, train
from nldf_engine.training import trainer as trainer_module
from nldf_engine.training.outcome import consent_for
from nldf_engine.training.stages import Subject

CONSENT = Consent("given", "Ada Lovelace", "2026-01-31", "for tests")


@pytest.fixture(scope="module")
def teacher(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher"
    train("adnerf-tiny", synthetic_dataset.path, path, TrainConfig(steps=40, consent=CONSENT))
    return path


def test_a_student_learns_from_video_and_teacher(
    synthetic_dataset: Dataset, teacher: Path, tmp_path: Path
) -> None:
    """A distilled student gains over 2 dB on frames it does not train on, and its avatar renders."""
    result = train(
        "nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(teacher=teacher, steps=150, seed=3)
    )
    first, last = result.history[0], result.history[-1]
    assert max(row["psnr"] for row in result.history) > first["psnr"] + 2
    kept = result.torso_history or result.history
    assert result.validation_psnr == max(row["psnr"] for row in kept)
    assert last["pixel"] < 0.7 * first["pixel"] and last["segments"] < first["segments"]
    assert last["pool"] > 0
    avatar = Avatar.load(tmp_path / "me")
    assert avatar.provenance["dataset"] == synthetic_dataset.hash()
    assert len(avatar.poses) <= synthetic_dataset.info.splits["train"][1], "no held-out pose is kept"
    clip = Engine(avatar, torch.device("cpu")).render(np.zeros((3, 16, 29), np.float32))
    assert clip.frames[:].shape == (3, 32, 32, 3)
    assert (tmp_path / "me.training" / "curves.png").is_file()
    assert avatar.consent == CONSENT, "a student takes its teacher's record"


def test_who_consented_is_recorded_or_missed_aloud(
    synthetic_dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """A given record stays, a synthetic speaker is no person, and of a person without one a line says so."""
    assert consent_for(synthetic_dataset, CONSENT) == CONSENT
    assert consent_for(synthetic_dataset, None) == Consent("no-person")
    assert capsys.readouterr().err == ""
    filmed = Dataset.open(synthetic_dataset.path)
    filmed.info = dataclasses.replace(filmed.info, source={"file": "speaker.mp4"})
    assert consent_for(filmed, None) == consent_for(filmed, Consent()) == Consent()
    assert capsys.readouterr().err.count("records no consent") == 2


def test_switched_off_parts_are_off(synthetic_dataset: Dataset, teacher: Path, tmp_path: Path) -> None:
    """Without distillation and pool, neither appears among the losses."""
    config = TrainConfig(teacher=teacher, steps=20, overrides={"distillation": "off", "active_pool": "off"})
    row = train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", config).history[-1]
    assert "segments" not in row and "pool" not in row and "pixel" in row


def test_avatars_are_kept_along_the_way(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """A run keeps its avatar at asked steps, with the best weights so far, and ends as it does without."""
    train("nldf-tiny", synthetic_dataset.path, tmp_path / "plain", TrainConfig(steps=40))
    result = train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=40, keep=(10, 20)))
    ends, kept = (
        [Avatar.load(tmp_path / name) for name in names] for names in (("plain", "me"), ("me-10", "me-20"))
    )
    for name, value in ends[0].portrait.state_dict().items():
        torch.testing.assert_close(value, ends[1].portrait.state_dict()[name], rtol=1e-4, atol=1e-6)
    assert [avatar.provenance["steps"] for avatar in kept] == [10, 20]
    for avatar, step in zip(kept, (10, 20), strict=True):
        best = max(row["psnr"] for row in result.history if row["step"] <= step)
        assert avatar.provenance["validation_psnr"] == best
    (tmp_path / "other-5").write_text("somebody's")
    with pytest.raises(FileProblem, match="other-5"):  # before anything is trained
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "other", TrainConfig(steps=40, keep=(5,)))
    assert not (tmp_path / "other.training").exists()
    with pytest.raises(ValueError, match="keep: expected steps of 1 or more, got 0"):
        TrainConfig(keep=(0, 5))


def test_students_share_a_teachers_targets(
    synthetic_dataset: Dataset, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one folder of targets the teacher is asked once, for the first of two students."""
    asked = []
    teach = distill._teach
    monkeypatch.setattr(distill, "_teach", lambda *given: asked.append(1) or teach(*given))
    for name in ("a", "b"):
        config = TrainConfig(
            teacher=teacher, steps=5, overrides={"torso": "plate"}, targets=tmp_path / "targets"
        )
        train("nldf-tiny", synthetic_dataset.path, tmp_path / name, config)
    assert len(asked) == 8, "as many frames as the recipe distils"
    assert not (tmp_path / "a.training" / "targets").exists()


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
        ("nldf-tiny", TrainConfig(minutes=float("inf")), "budget"),
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
    """A checkpoint cut short says so and gives the remedy."""
    train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=5))
    path = tmp_path / "me.training" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileProblem, match="checkpoint"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=5, resume=True))
    shutil.rmtree(tmp_path / "me.training")
    train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=5))


def test_a_resumed_run_may_have_a_larger_budget(
    synthetic_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished run goes on to more steps, says what the schedule does, and ends as any run does."""
    first = train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=20))
    low = first.history[-1]["learning_rate"]
    capsys.readouterr()
    config = TrainConfig(steps=40, resume=True)
    longer = train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    assert "larger budget (recipe.steps: 20 -> 40)" in capsys.readouterr().err
    assert longer.steps == 40 and longer.history[: len(first.history)] == first.history
    after = longer.history[len(first.history)]["learning_rate"]
    assert after > low and longer.history[-1]["learning_rate"] == pytest.approx(low)
    assert Avatar.load(tmp_path / "me").provenance["settings"]["recipe"]["steps"] == 40
    with pytest.raises(FileProblem, match="the budget may grow"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=30, resume=True))
    with pytest.raises(FileProblem, match="minutes"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(minutes=1, resume=True))


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_failed_run_leaves_nothing(synthetic_dataset: Dataset, tmp_path: Path, content: bytes) -> None:
    """Where the background is no picture, no folder is left of the run, and the message names it."""
    data = shutil.copytree(synthetic_dataset.path, tmp_path / "data")
    (data / "background.png").write_bytes(content)
    with pytest.raises(FileProblem, match=r"background\.png"):
        train("nldf-tiny", data, tmp_path / "me", TrainConfig(steps=5))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_changed_dataset_is_not_trained_on(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """One changed byte of the sound, its size the same, ends the run before it begins."""
    data = shutil.copytree(synthetic_dataset.path, tmp_path / "data")
    sound = bytearray((data / "audio.wav").read_bytes())
    sound[-1] ^= 1
    (data / "audio.wav").write_bytes(bytes(sound))
    with pytest.raises(FileProblem, match="changed or damaged"):
        train("nldf-tiny", data, tmp_path / "me", TrainConfig(steps=5))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_output_among_the_inputs_is_refused(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Neither a folder inside the dataset nor the teacher itself is written to, and a file is no folder."""
    before = sorted(synthetic_dataset.path.iterdir())
    with pytest.raises(FileProblem, match="overlaps"):
        train("nldf-tiny", synthetic_dataset.path, synthetic_dataset.path / "me", TrainConfig(steps=5))
    assert sorted(synthetic_dataset.path.iterdir()) == before
    with pytest.raises(FileProblem, match="overlaps"):
        train(
            "nldf-tiny",
            synthetic_dataset.path,
            tmp_path / "me",
            TrainConfig(steps=5, teacher=tmp_path / "me"),
        )
    (tmp_path / "file").touch()
    with pytest.raises(FileProblem, match=r"no folder.*To fix it: choose an output path"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "file" / "me", TrainConfig(steps=5))


def test_how_often_a_run_is_validated_is_a_setting(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """So many rows of the history have a PSNR, and each is the mean over so many frames."""
    quick = {"speech_steps": "4", "validation.times": "3", "validation.frames": "2", "torso": "plate"}
    config = TrainConfig(steps=30, overrides=quick)
    history = train("adnerf-tiny", synthetic_dataset.path, tmp_path / "me", config).history
    assert [row["step"] for row in history if "psnr" in row] == [10, 20, 30]
    seen: list[int] = []
    original = trainer_module.validation_frame

    def counted(subject: Subject, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(number)
        return original(subject, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "validation_frame", counted)
        train("adnerf-tiny", synthetic_dataset.path, tmp_path / "two", config)
    assert len(seen) == 6 and len(set(seen)) == 2
    for setting in ("validation.times", "validation.frames"):
        with pytest.raises(ValueError, match=f"{setting}: expected 1 to"):
            find_preset("adnerf-tiny", {setting: "0"})


@pytest.mark.parametrize(
    ("weight", "begin", "final", "best"),
    [
        ("0", "0.5", "0", 40.0), ("0.05", "0.5", "0", 38.0), ("0.05", "0.4", "0", 38.0),
        ("0.05", "0.4", "0.6", 40.0), ("0.05", "0.5", "0.6", 40.0), ("0.05", "0.3", "0.4", 39.0),
    ],
)  # fmt: skip
def test_weights_of_before_the_final_loss_are_not_the_best(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: str, begin: str,
    final: str, best: float,
) -> None:  # fmt: skip
    """A perceptual distance costs decibels: what was better before it counted would leave it out again.

    Where it begins right after a validation, that one is of before. Where the final phase has begun by then,
    nothing is validated any more, and what was found before is what is told.
    """
    found = iter([40.0, 39.0, 38.0, 37.0, 36.0])  # after each fifth of the run
    picture = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(trainer_module.Trainer, "validate", lambda self: (next(found), picture, picture))
    overrides = {"final_share": final, "sharpening.weight": weight, "sharpening.side": "32"}
    config = TrainConfig(steps=10, overrides={**overrides, "sharpening.begin": begin})
    assert train("nldf-fast-tiny", synthetic_dataset.path, tmp_path / "a", config).validation_psnr == best
