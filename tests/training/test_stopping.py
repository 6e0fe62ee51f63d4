"""Stopping a run: signals strike between steps, and a resumed run goes through the very same states."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fields import field_of, seeded
from nldf_engine.audio import FrontendConfig
from nldf_engine.base.json import encode
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.training import TrainConfig, find_preset, train
from nldf_engine.training import trainer as trainer_module
from nldf_engine.training.recipe import Sampling, changed
from nldf_engine.training.scene import RayScene

STEPS = 40


def histories_agree(a: list[dict[str, float]], b: list[dict[str, float]]) -> bool:
    return [row["step"] for row in a] == [row["step"] for row in b] and all(
        abs(x["psnr"] - y["psnr"]) < 1e-6 and abs(x["pixel"] - y["pixel"]) < 1e-9
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture(scope="module")
def alone(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    path = tmp_path_factory.mktemp("alone") / "me"
    return train("nldf-tiny", synthetic_dataset.path, path, TrainConfig(steps=STEPS)).history


@pytest.mark.parametrize("where", ["step", "validate"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_resumes_to_the_same_curve(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    alone: list[dict[str, float]], where: str, number: signal.Signals,
) -> None:  # fmt: skip
    """A signal amid a step or a validation, then --resume: the history is the undisturbed one."""
    original = getattr(trainer_module.Trainer, where)
    calls = [0]

    def disturbed(self: trainer_module.Trainer) -> object:
        calls[0] += 1
        if calls[0] == {"step": 7, "validate": 3}[where]:
            os.kill(os.getpid(), number)
        return original(self)

    monkeypatch.setattr(trainer_module.Trainer, where, disturbed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=STEPS))
    monkeypatch.undo()
    assert not (tmp_path / "me").exists()
    config = TrainConfig(steps=STEPS, resume=True)
    resumed = train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", config).history
    assert histories_agree(alone, resumed)


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: list[dict[str, float]]
) -> None:
    """An error leaves the last checkpoint as it was; from there the curve is the undisturbed one."""
    original = trainer_module.Trainer.step
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", 0.0)

    def fails(self: trainer_module.Trainer) -> float:
        if self.state.step == 11:
            raise OSError("the machine went away")
        return original(self)

    monkeypatch.setattr(trainer_module.Trainer, "step", fails)
    with pytest.raises(OSError, match="went away"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=STEPS))
    monkeypatch.undo()
    config = TrainConfig(steps=STEPS, resume=True)
    resumed = train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", config).history
    assert histories_agree(alone, resumed)


def test_a_run_that_ended_by_its_minutes_is_finished(
    synthetic_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same run again is a new one, and no continuation; it says which avatar it takes the place of."""
    from nldf_engine.training.checkpoint import read_state
    from nldf_engine.training.outcome import tell_replaced
    from nldf_engine.training.resume import find_run
    from nldf_engine.training.stages import Stage

    me, folder = tmp_path / "me", tmp_path / "me.training"
    tell_replaced([me])
    assert not capsys.readouterr().err
    train("nldf-tiny", synthetic_dataset.path, me, TrainConfig(minutes=0.01))
    (checkpoint,) = folder.rglob("checkpoint.safetensors")
    state = read_state(checkpoint)
    assert state.finished and state.seconds >= 0.6
    stage = Stage(state.settings["phases"][0], folder=str(checkpoint.parent.relative_to(folder)))
    assert find_run(folder, [stage], state.settings, find_preset("nldf-tiny").recipe, resume=False) == []
    tell_replaced([me])
    said = f"{me}: when this run ends, it replaces nldf-tiny of "
    assert capsys.readouterr().err.endswith("keep that\n") and not list(tmp_path.glob(".*.lock"))
    tell_replaced([me])
    assert capsys.readouterr().err.startswith(said)


def test_targets_of_another_teacher_are_not_taken(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """The cache of segment colours is named after teacher, dataset, size and the codes that are told."""
    from nldf_engine.training.resume import targets_key

    def settings(**changes: Any) -> dict[str, Any]:
        recipe = changed(find_preset("nldf-tiny").recipe, changes)
        return {"teacher": "a", "dataset": "d", "recipe": encode(recipe)}

    others = [settings() | {"teacher": "b"}, settings() | {"dataset": "e"}]
    others += [settings(size=48), settings(motion_codes=24), settings(upper_codes=24)]
    assert len({targets_key(value) for value in [settings(), *others]}) == 6


def test_a_teacher_of_another_dataset_is_refused(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """What a teacher may have seen of the held-out part stays out of the student."""
    from avatars import tiny_avatar
    from nldf_engine.base.errors import FileProblem

    tiny_avatar("adnerf").save(tmp_path / "teacher")
    with pytest.raises(FileProblem, match="another dataset"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(teacher=tmp_path / "teacher"))


def test_an_unusable_output_is_refused_before_training(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """A folder that is no avatar is not trained towards."""
    from nldf_engine.base.errors import FileProblem

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(FileProblem, match="is no avatar"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "photos", TrainConfig(steps=5))
    assert not (tmp_path / "photos.training").exists()


def test_the_portrait_can_leave_the_scene_s_device(synthetic_dataset: Dataset) -> None:
    """Moving the portrait moves copies: the scene goes on drawing its rays on the CPU."""
    import copy

    scene = RayScene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"))
    head = RayHead(field_of("nldf-tiny", scene.bounds), copy.deepcopy(scene.region))
    Portrait(head, copy.deepcopy(scene.torso)).to("meta")
    assert scene.region.occupancy.device.type == "cpu"
    assert scene.draw(scene.fit[:1], 8, Sampling(), seeded()).shape == (1, 8)
