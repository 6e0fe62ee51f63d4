"""Gaussian landmarks from a dataset to an avatar: it learns, resumes, streams, is evaluated, and teaches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.engine import Engine
from nldf_engine.evaluation import EvaluateConfig, evaluate
from nldf_engine.nn.perceptual import StructureLoss
from nldf_engine.systems.gaussian_landmark.encoding import ENCODINGS
from nldf_engine.systems.gaussian_landmark.objective import PatchLoss
from nldf_engine.systems.gaussian_landmark.recipe import LandmarkTraining
from nldf_engine.training import TrainConfig, train
from nldf_engine.training import trainer as trainer_module
from nldf_engine.training.landmarks import fit_landmarks
from nldf_engine.training.presets import find_preset
from nldf_engine.training.scene import RayScene, Scenes
from nldf_engine.training.stages import Run
from nldf_engine.training.unet import UnetLoss, make_unet

NAME = "gaussian-landmark-tiny"
QUICK = {"landmarks.steps": "4", "torso_steps": "12"}


@pytest.fixture(scope="module")
def trained(
    synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, float]]]:
    path = tmp_path_factory.mktemp("landmarks") / "me"
    result = train(
        NAME, synthetic_dataset.path, path, TrainConfig(steps=120, overrides={"landmarks.steps": "4"})
    )
    return path, result.history


def sound() -> tuple[np.ndarray, int]:
    return np.random.default_rng(0).uniform(-0.2, 0.2, 12800).astype(np.float32), 16000


def make_run(dataset: Dataset, **overrides: str) -> Run:
    preset = find_preset(NAME, overrides)
    scene = RayScene(dataset, preset.recipe.size, FrontendConfig("mel").resolve(), torch.device("cpu"))
    torch.manual_seed(0)
    return Run(preset, TrainConfig(), Scenes([scene]), scene.frontend, torch.device("cpu"))


def built(run: Run, alone: bool = True) -> PatchLoss:
    training = LandmarkTraining(run.recipe, StructureLoss(), alone)  # type: ignore[arg-type]
    training.build(run)
    subject = run.subjects[0]
    subject.scene.set_track("landmarks", fit_landmarks(subject.portrait.head.driver, subject.scene))
    loss = training.objective(run, subject)
    assert isinstance(loss, PatchLoss)
    return loss


def test_it_learns(trained: tuple[Path, list[dict[str, float]]]) -> None:
    """The error falls; the avatar has the landmarks' driver and a U-Net, and says which loss it had."""
    path, history = trained
    assert min(row["photometric"] for row in history[-5:]) < 0.8 * max(row["photometric"] for row in history)
    assert history[-1]["mask"] < 0.7 * max(row["mask"] for row in history), "what is empty is learned later"
    avatar = Avatar.load(path)
    assert set(avatar.portrait.torso.describe()) == {"unet"}
    driver = avatar.portrait.head.driver.part("landmarks")
    assert driver.dim == 204 and float(driver.usual.abs().max()) > 0.01
    assert avatar.provenance["settings"]["notes"]["perceptual_loss"] in ("VGG16", "SSIM and gradients")


def test_a_stream_equals_a_clip(trained: tuple[Path, list[dict[str, float]]]) -> None:
    """To the bit, whatever the chunks, at the trained size and another."""
    engine = Engine.load(trained[0])
    rendered = engine.render(sound()).frames[:]
    streamed = np.stack(list(engine.stream(np.array_split(sound()[0], 5))))
    assert np.array_equal(streamed, rendered)
    assert engine.render(sound(), size=64).frames[0].shape == (64, 64, 3)


def test_it_is_evaluated(
    trained: tuple[Path, list[dict[str, float]]], synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """As every system."""
    config = EvaluateConfig(every=5, pictures=False)
    scores = evaluate(trained[0], synthetic_dataset.path, tmp_path, config, detector=None)
    assert scores["system"] == "gaussian-landmark" and scores["psnr"] > 12


def test_it_teaches(
    trained: tuple[Path, list[dict[str, float]]], synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """A light field learns from its segments as from an AD-NeRF's, on the video's own landmarks."""
    quick = {"speech_steps": "4", "distillation.frames": "4"}
    config = TrainConfig(steps=20, teacher=trained[0], overrides=quick)
    history = train("nldf-fast-tiny", synthetic_dataset.path, tmp_path / "s", config).history
    assert np.isfinite(history[-1]["segments"]) and history[-1]["segments"] > 0


@pytest.mark.parametrize(("stage", "lost"), [("head", 13), ("torso", 7)])
def test_a_stopped_run_resumes_to_the_same_weights(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, lost: int
) -> None:
    """In either stage: the mask's cut, the heads and the random state come back, weights equal to the bit."""
    config = TrainConfig(steps=24, overrides=QUICK)
    whole = train(NAME, synthetic_dataset.path, tmp_path / "whole", config)
    original, begun = trainer_module.Trainer.step, []
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", 0.0)

    def fails(self: trainer_module.Trainer) -> torch.Tensor:
        if (self.folder.name == "torso") == (stage == "torso") and self.state.step == lost:
            begun.append(stage)
            raise OSError("the machine went away")
        return original(self)

    monkeypatch.setattr(trainer_module.Trainer, "step", fails)
    with pytest.raises(OSError, match="went away"):
        train(NAME, synthetic_dataset.path, tmp_path / "me", config)
    monkeypatch.undo()
    assert begun == [stage]
    again = TrainConfig(steps=24, overrides=QUICK, resume=True)
    resumed = train(NAME, synthetic_dataset.path, tmp_path / "me", again)
    ours, theirs = (Avatar.load(result.avatar).portrait.state_dict() for result in (resumed, whole))
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_rays_beside_the_head_are_released(synthetic_dataset: Dataset) -> None:
    """At first none of them is evaluated, later a share, in the end all within the region."""
    loss = built(make_run(synthetic_dataset))
    generator = torch.Generator().manual_seed(0)
    frames = loss.scene.fit[:2]
    every = torch.arange(32 * 32).expand(2, -1)
    code = loss.codes(frames, generator)
    batch = loss.target.batch(frames, every, code)
    outside = batch.mask == 0
    region = loss.target.region.select(batch.rays.origins, batch.rays.directions)
    assert bool((region & outside).any())
    counts = []
    for released in (0.0, 0.5, 1.0):
        seen = loss.colors(batch, code, released, generator)
        counts.append(int((seen.opacity[outside] > 0).sum()))
        assert bool((seen.opacity[~outside & region] > 0).all())
    assert counts[0] == 0 < counts[1] < counts[2] == int((region & outside).sum())
    shares = []
    for share in (0.0, 0.1, 0.2, 0.3, 1.0):
        loss.share = share
        shares.append(round(loss.released(), 3))
    assert shares == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_alone_the_head_has_no_neck(synthetic_dataset: Dataset) -> None:
    """For a U-Net neck and torso are background to the head; before a plate the neck is the head's."""
    for alone in (True, False):
        loss = built(make_run(synthetic_dataset, torso="unet" if alone else "plate"), alone)
        frames, every = loss.scene.fit[:1], torch.arange(32 * 32)[None]
        batch = loss.target.batch(frames, every, loss.codes(frames, torch.Generator()))
        neck = batch.labels == LABELS["neck"]
        assert bool(neck.any()) and float(batch.mask[neck].mean()) == float(not alone)


def test_closed_eyes_weigh_more(synthetic_dataset: Dataset) -> None:
    """The error about shut eyes counts e times that about eyes of usual openness; elsewhere none."""
    loss = built(make_run(synthetic_dataset))
    frames, every = loss.scene.fit[:1], torch.arange(32 * 32)[None]
    batch = loss.target.batch(frames, every, loss.codes(frames, torch.Generator()))
    found = []
    for openness in (1.0, 0.0):
        loss.scene.conditions.tracks["eyes"] = torch.full((len(loss.scene.poses),), openness * loss._usual)
        found.append(float(loss.eye_loss(batch.target + 0.5, batch)))
    assert found[1] == pytest.approx(np.e * found[0], rel=1e-4) and found[0] == pytest.approx(0.125, rel=1e-4)
    away = batch.target.clone()
    away[:, :32] += 0.5  # the first row of the picture
    assert float(loss.eye_loss(away, batch)) == 0


@pytest.mark.parametrize("kind", ENCODINGS)
def test_encodings_are_a_setting(synthetic_dataset: Dataset, kind: str) -> None:
    """Those of table III, by --set encoding=...; each takes a step."""
    run = make_run(synthetic_dataset, encoding=kind)
    loss = built(run)
    assert loss.field.config.encoding.kind == kind == loss.field.encoding.kind
    step = loss(torch.Generator().manual_seed(0))
    step.total.backward()
    assert bool(torch.isfinite(step.total)) and set(step.logged) >= {"pixel", "mask", "eyes", "perceptual"}


def test_the_u_net_trains_alone(synthetic_dataset: Dataset) -> None:
    """Its loss reaches none of the head's weights, and the same frame's head is drawn once."""
    run = make_run(synthetic_dataset)
    built(run)
    subject, recipe = run.subjects[0], run.recipe.unet  # type: ignore[attr-defined]
    subject.portrait.torso = make_unet(subject, recipe)
    loss = UnetLoss(subject, recipe, StructureLoss())
    assert loss.head(int(loss.pool()[0])) is loss.head(int(loss.pool()[0]))
    loss(torch.Generator().manual_seed(0)).total.backward()
    assert all(p.grad is None for p in subject.portrait.head.parameters())
    assert float(subject.portrait.torso.network.out.weight.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TrainConfig(overrides={"encoding": "fourier"}), "encoding: expected one of gaussian"),
        (TrainConfig(overrides={"torso": "layer"}), "torso: expected one of unet, plate"),
        (TrainConfig(weights=Path("nowhere-at-all")), "nowhere-at-all.*no such folder"),
        (TrainConfig(teacher=Path("x")), "does not learn from a teacher"),
    ],
)
def test_what_can_not_be_trained_is_refused(
    synthetic_dataset: Dataset, tmp_path: Path, config: TrainConfig, message: str
) -> None:
    """Before anything is trained."""
    with pytest.raises(Exception, match=message) as caught:
        train(NAME, synthetic_dataset.path, tmp_path / "me", config)
    assert type(caught.value).__name__ in ("ValueError", "FileProblem")
    assert not (tmp_path / "me").exists()
