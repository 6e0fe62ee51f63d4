"""Head, then torso: what the second step sees and learns, how it resumes, and students of both layers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fields import field_of, seeded
from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.json import read_back
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.adnerf.model import RadianceField
from nldf_engine.systems.common.torso import TorsoPlate
from nldf_engine.systems.common.torso_field import TorsoField
from nldf_engine.systems.nldf.model import LightField
from nldf_engine.systems.registry import find_system
from nldf_engine.training import TrainConfig, find_preset, train
from nldf_engine.training import trainer as trainer_module
from nldf_engine.training.presets import recipe_module
from nldf_engine.training.recipe import Sampling, changed
from nldf_engine.training.resume import checkpoint_of
from nldf_engine.training.resume import find_run as find_stages
from nldf_engine.training.scene import RayScene, Scenes
from nldf_engine.training.stages import Run, Stage, Subject, make_torso_field, ray_stages
from nldf_engine.training.targets import TorsoTarget

STEPS = {"torso_steps": "30", "speech_steps": "4"}


@pytest.fixture(scope="module")
def teacher(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher"
    train("adnerf-tiny", synthetic_dataset.path, path, TrainConfig(steps=30, overrides=STEPS))
    return path


@pytest.fixture(scope="module")
def scene(synthetic_dataset: Dataset) -> RayScene:
    return RayScene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"))


def torso_run(scene: RayScene, name: str = "adnerf-tiny", **settings: str) -> Run:
    preset = find_preset(name, {"motion_codes": "0", **settings})
    run = Run(preset, TrainConfig(), Scenes([scene]), scene.frontend, scene.device)
    head = RayHead(field_of(preset, scene.bounds), scene.region)
    run.subjects = [Subject(scene, Portrait(head, scene.torso))]
    run.subjects[0].portrait.torso = make_torso_field(run)
    return run


def torso_part(scene: RayScene, name: str = "adnerf-tiny", **settings: str) -> TorsoTarget:
    part = TorsoTarget(torso_run(scene, name, **settings).subjects[0].portrait, scene)
    part.mark_region()
    return part


def drawn(part: TorsoTarget):  # type: ignore[no-untyped-def]
    frames = part.scene.fit[:3]
    pixels = part.draw(frames, 300, Sampling(face_share=0.8), seeded())
    code = part.codes(part.scene.conditions, frames)
    return part.batch(frames, pixels, code)


def test_labels_say_what_the_torso_shows(scene: RayScene) -> None:
    """Behind the head: opaque on neck and torso, the plate's guess where the head hides it, alone on both."""
    batch = drawn(torso_part(scene))
    own = (batch.labels == LABELS["neck"]) | (batch.labels == LABELS["torso"])
    assert float(own.float().mean()) > 0.7
    hidden = batch.labels == LABELS["head"]
    assert torch.equal(batch.mask[~hidden], own[~hidden].float())
    assert torch.equal(batch.weight < 1, hidden) and float(batch.weight.min()) > 0
    assert float(batch.front.opacity[own | hidden].abs().max()) == 0
    x, y = batch.pixels % 32, batch.pixels // 32
    assert torch.equal(batch.behind, scene.background[y, x]), "the plate must not show through"
    motions, poses = scene.motions[batch.frames], scene.poses[batch.frames]
    color, alpha = scene.torso.sample(scene.pixels[batch.pixels] / 32, motions, poses)
    guess = torch.lerp(batch.behind, color, alpha[..., None])
    torch.testing.assert_close(batch.target[hidden], guess[hidden])
    assert torch.equal(batch.mask[hidden], alpha[hidden]) and float(alpha[hidden].max()) > 0.9


def test_the_neck_goes_on_under_the_chin(scene: RayScene) -> None:
    """The torso may draw behind the lower head, where the plate is likely; not behind all of it."""
    part = torso_part(scene)
    frame = int(scene.fit[0])
    shown = part._shown(frame)
    head = scene.labels[frame] == LABELS["head"]
    behind = (shown & head).nonzero()[:, 0]
    assert len(behind) and int(behind.min()) > int(head.nonzero()[:, 0].float().mean())
    rays = part.rays(torch.tensor([frame]), shown.view(-1).nonzero()[:, 0][None])
    assert bool(part.region.select(rays.origins[0], rays.directions[0]).all())


def test_in_front_the_head_s_picture_is_the_background(scene: RayScene) -> None:
    """With torso_in_front, what stands behind is head over background, and the head's pixels count (3.4)."""
    part = torso_part(scene, torso_in_front="on")
    batch = drawn(part)
    assert batch.front is None and batch.weight is None
    x, y = batch.pixels % 32, batch.pixels // 32
    on_head = batch.labels == LABELS["head"]
    assert float((batch.behind - scene.background[y, x]).abs()[on_head].max()) > 1e-3


@pytest.mark.parametrize("name", ["adnerf-tiny", "nldf-tiny"])
def test_the_second_step_leaves_the_head_alone(scene: RayScene, name: str) -> None:
    """One objective trains either field; with the torso's part, no gradient reaches the head."""
    run = torso_run(scene, name, torso="field")
    portrait, generator = run.subjects[0].portrait, seeded()
    (stage,) = (s for s in recipe_module(find_system(run.preset.system)).stages(run) if s.name == "torso")
    objective = stage.objective(run, run.subjects[0])
    for _ in range(2):
        loss = objective(generator)
    loss.total.backward()
    assert all(p.grad is None for p in portrait.head.parameters())
    assert all(p.grad is not None for p in portrait.torso.field.parameters())


def test_both_fields_are_learned_from_video_and_teacher(
    synthetic_dataset: Dataset, teacher: Path, tmp_path: Path
) -> None:
    """adnerf gives two radiance fields; its student two light fields, taught in the same canonical view."""
    taught = Avatar.load(teacher)
    assert isinstance(taught.portrait.torso, TorsoField)
    assert isinstance(taught.portrait.torso.field, RadianceField)
    assert taught.provenance["torso"]["steps"] == 30
    config = TrainConfig(teacher=teacher, steps=10, overrides={"torso_steps": "60"})
    result = train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    first, last = result.torso_history[0], result.torso_history[-1]
    assert result.steps == 70 and last["pixel"] < 0.5 * first["pixel"]
    assert last["segments"] < first["segments"]
    mine = Avatar.load(tmp_path / "me").portrait
    assert isinstance(mine.torso, TorsoField) and isinstance(mine.torso.field, LightField)
    assert torch.equal(mine.torso.pose, taught.portrait.torso.pose)
    config = TrainConfig(teacher=teacher, steps=5, overrides={"torso": "plate"})
    train("nldf-tiny", synthetic_dataset.path, tmp_path / "plate", config)
    assert isinstance(Avatar.load(tmp_path / "plate").portrait.torso, TorsoPlate)


@pytest.mark.parametrize("stop", [12, 45])
def test_a_run_resumes_in_either_step(
    synthetic_dataset: Dataset, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Stopped while the head or the torso is trained, --resume ends in the undisturbed run's weights."""
    original, calls = trainer_module.Trainer.step, [0]

    def stopped(self: trainer_module.Trainer) -> float:
        calls[0] += 1
        if calls[0] == stop:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(trainer_module.Trainer, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train("adnerf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=30, overrides=STEPS))
    monkeypatch.undo()
    with pytest.raises(FileProblem, match="unfinished"):
        train("adnerf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=30, overrides=STEPS))
    config = TrainConfig(steps=30, overrides=STEPS, resume=True)
    train("adnerf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    a, b = (Avatar.load(path).portrait.state_dict() for path in (tmp_path / "me", teacher))
    for key, value in a.items():
        torch.testing.assert_close(value, b[key], rtol=1e-4, atol=1e-6)


def test_which_steps_a_resumed_run_goes_on_with(tmp_path: Path) -> None:
    """The torso goes on about the head that it was begun with, and begins anew about one that trained on."""
    recipe = find_preset("adnerf-tiny", {"steps": "10", "torso_steps": "5"}).recipe
    settings = {"recipe": read_back(recipe), "minutes": None, "phases": ["head", "torso"]}
    stages = [Stage("head"), Stage("torso", budget="torso.steps", folder="torso")]
    folder = tmp_path / "me.training"

    def find_run(folder: Path, settings: dict[str, Any], resume: bool) -> list[str]:
        return find_stages(folder, stages, settings, recipe, resume)

    def longer(**steps: int) -> dict[str, Any]:
        return {**settings, "recipe": read_back(changed(recipe, steps))}

    def leave(phase: str, then: dict[str, Any], finished: bool = True) -> None:
        path = checkpoint_of(folder, stages[phase == "torso"])
        path.parent.mkdir(exist_ok=True)
        run = {"settings": then, "step": 3, "finished": finished}
        save_file({"x": torch.zeros(1)}, path, metadata={"run": json.dumps(run)})

    assert find_run(folder, settings, True) == []
    leave("head", settings)
    assert find_run(folder, settings, True) == ["head"]
    with pytest.raises(FileProblem, match="unfinished"):
        find_run(folder, settings, False)
    leave("torso", settings, finished=False)
    assert find_run(folder, settings, True) == ["head", "torso"]
    leave("torso", settings)
    with pytest.raises(FileProblem, match="unfinished"):  # it was stopped before its avatar was written
        find_run(folder, settings, False)
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "avatar.json").touch()
    assert find_run(folder, settings, False) == []
    assert find_run(folder, longer(torso_steps=9), True) == ["head", "torso"]
    assert find_run(folder, longer(steps=20), True) == ["head"]
    leave("head", longer(steps=20), finished=False)
    assert find_run(folder, longer(steps=20), True) == ["head"]
    with pytest.raises(FileProblem, match="the budget may grow"):
        find_run(folder, longer(steps=20, torso_steps=4), True)


def test_a_u_net_is_trained_about_a_head(
    synthetic_dataset: Dataset, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A system that lists it has it: about its own head, which is without a neck, or about a given one. Which
    perceptual loss it had is said and recorded."""
    quick = {"torso": "unet", "torso_steps": "6", "speech_steps": "4", "most_heads": "4"}
    for name, config in (("own", TrainConfig(steps=6, overrides=quick)),
                         ("given", TrainConfig(head=teacher, overrides=quick))):  # fmt: skip
        train("adnerf-tiny", synthetic_dataset.path, tmp_path / name, config)
        avatar = Avatar.load(tmp_path / name)
        assert set(avatar.portrait.torso.describe()) == {"unet"}
        assert float(avatar.portrait.torso.network.out.weight.abs().max()) > 0, "it has learned"
        used = avatar.provenance["settings"]["notes"]["perceptual_loss"]
        assert used == "VGG16" or used in capsys.readouterr().err
    own, given = (Avatar.load(path).portrait.head.state_dict() for path in (tmp_path / "given", teacher))
    assert all(torch.equal(own[key], value) for key, value in given.items())
    with pytest.raises(ValueError, match="torso: expected one of plate, layer, field, distilled, got 'unet'"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "x", TrainConfig(overrides={"torso": "unet"}))
    with pytest.raises(ValueError, match="U-Net torso is trained for one speaker, got 2 datasets"):
        several = [synthetic_dataset.path, synthetic_dataset.path]
        train("adnerf-tiny", several, tmp_path / "x", TrainConfig(overrides=quick))


@pytest.mark.parametrize("alone", [False, True])
def test_the_head_of_a_u_net_has_no_neck(scene: RayScene, alone: bool) -> None:
    """What the head is trained on has neck and torso as background where another torso draws them."""
    run = torso_run(scene, torso="unet" if alone else "plate")
    seen: list[Any] = []
    stages = ray_stages(run, lambda part: seen.append(part) or None, alone)  # type: ignore[arg-type,func-returns-value]
    head = next(stage for stage in stages if stage.name == "head")
    assert head.objective is not None
    head.objective(run, run.subjects[0])
    frames, every = scene.fit[:1], torch.arange(32 * 32)[None]
    batch = seen[0].target.batch(frames, every, torch.zeros(1, 1))
    neck = batch.labels == LABELS["neck"]
    assert bool(neck.any()) and float(batch.mask[neck].mean()) == float(not alone)


def test_a_given_head_is_kept(synthetic_dataset: Dataset, teacher: Path, tmp_path: Path) -> None:
    """With `head`, only a torso is trained about it; another system's head is refused."""
    config = TrainConfig(head=teacher, overrides={"torso_steps": "10", "torso_follows": "on"})
    train("adnerf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    mine, given = Avatar.load(tmp_path / "me").portrait, Avatar.load(teacher).portrait
    for key, value in given.head.state_dict().items():
        assert torch.equal(mine.head.state_dict()[key], value), key
    assert mine.torso.config.follows and not given.torso.config.follows
    with pytest.raises(ValueError, match="head: expected an avatar of system 'nldf'"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "x",
              TrainConfig(head=teacher, overrides={"torso": "field"}))  # fmt: skip
    with pytest.raises(ValueError, match="head"):
        train("nldf-fast-tiny", synthetic_dataset.path, tmp_path / "x", TrainConfig(head=teacher))
