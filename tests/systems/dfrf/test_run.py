"""DFRF from datasets to avatars: bases, fine-tuning, resumption, streams, evaluation, teaching, refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.datasets.stretch import Stretch, limited
from nldf_engine.engine import Engine
from nldf_engine.evaluation import EvaluateConfig, evaluate
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.dfrf.model import ReferenceField
from nldf_engine.systems.dfrf.objective import ReferenceObjective, bend_loss, references_of
from nldf_engine.systems.dfrf.recipe import stages
from nldf_engine.training import TrainConfig, TrainResult, train
from nldf_engine.training import trainer as trainer_module
from nldf_engine.training.bases import read_base
from nldf_engine.training.presets import find_preset
from nldf_engine.training.scene import RayScene, Scenes
from nldf_engine.training.stages import Run, own_modules
from tests.systems.dfrf.conftest import QUICK


def sound() -> tuple[np.ndarray, int]:
    return np.random.default_rng(0).uniform(-0.2, 0.2, 12800).astype(np.float32), 16000


def field_of(path: Path) -> ReferenceField:
    field = Avatar.load(path).portrait.head.field
    assert isinstance(field, ReferenceField)
    return field


def make_run(*datasets: Dataset, **overrides: str) -> Run:
    preset = find_preset("dfrf-tiny", QUICK | overrides)
    frontend = FrontendConfig("mel").resolve()
    scenes = Scenes([RayScene(data, 32, frontend, torch.device("cpu")) for data in datasets])
    torch.manual_seed(0)
    return Run(preset, TrainConfig(), scenes, frontend, torch.device("cpu"))


def objectives(run: Run) -> list[ReferenceObjective]:
    """Of a run whose motion codes are zeros."""
    made = stages(run)
    for stage in made:
        stage.build(run)
    for scene in run.scenes:
        scene.set_track("motion", torch.zeros(len(scene.poses), 4))
    (head,) = [stage for stage in made if stage.objective is not None]
    assert head.objective is not None
    found = [head.objective(run, subject) for subject in run.subjects]
    assert all(isinstance(each, ReferenceObjective) for each in found)
    return found  # type: ignore[return-value]


def test_several_speakers_share_all_but_what_is_their_own(base: TrainResult) -> None:
    """The error falls; both avatars have the same networks, and their own references and motion."""
    history = base.history
    assert min(row["pixel"] for row in history[-5:]) < 0.8 * history[0]["pixel"]
    first, second = (field_of(path) for path in base.avatars)
    apart = {
        name.split(".")[0]
        for name, value in first.state_dict().items()
        if not torch.equal(value, second.state_dict()[name])
    }
    assert apart == {"references", "encoder"}
    for field in (first, second):
        assert field.references.pictures.shape == (3, 32, 32, 3) and field.references.pictures.any()
        assert field.config.conditions.identity == 0, "who speaks is seen in the references"


def test_a_base_holds_what_speakers_share(base: TrainResult, synthetic_dataset: Dataset) -> None:
    """No picture, no codes of anybody; it says what it was trained on."""
    assert base.base is not None and base.base.stat().st_size < 3_000_000
    found, field = read_base(base.base), field_of(base.avatars[0])
    assert not [name for name in found.tensors if name.startswith(("references.", "encoder."))]
    assert set(found.tensors) == {
        n for n in field.state_dict() if not n.startswith(("references.", "encoder."))
    }
    for name, value in found.tensors.items():
        assert torch.equal(value, field.state_dict()[name])
    about = found.info["provenance"]
    assert [each["kind"] for each in about["trained_on"]] == ["synthetic", "synthetic"]
    assert about["trained_on"][0]["dataset"] == synthetic_dataset.hash() and about["steps"] == 40


def test_a_new_speaker_begins_from_a_base(base: TrainResult, other: Dataset, tmp_path: Path) -> None:
    """With its networks, its own references, a new optimiser, and the warp at once; from the file or from the
    folder that the base's run wrote."""
    for given in (base.base, base.avatar):
        run = make_run(other)
        assert given is not None and base.base is not None
        run.base = read_base(base.base)
        (objective,) = objectives(run)
        field, known = objective.reference_field, read_base(base.base).tensors
        assert all(torch.equal(field.state_dict()[name], value) for name, value in known.items())
        assert (
            objective.warp_from == 0.0
            and run.recipe.learning_rate == find_preset("dfrf-tiny").recipe.tuned_rate
        )
        config = TrainConfig(steps=4, overrides=QUICK, base=given)
        result = train("dfrf-tiny", other.path, tmp_path / "me", config)
        settings = Avatar.load(result.avatar).provenance["settings"]
        assert settings["base"]["sha256"] == read_base(base.base).sha256
        assert len(settings["base"]["trained_on"]) == 2 and result.base is None
        bends = [row["bend"] for row in result.history]
        assert min(bends) > 0, "the warp is on from the first step"


def test_a_base_is_not_written_over(base: TrainResult, other: Dataset) -> None:
    """A run into the folder that its base is in would delete it before it is known to succeed."""
    assert base.base is not None
    before = base.base.read_bytes()
    with pytest.raises(FileProblem, match="in the folder of the run that is to begin from it"):
        train("dfrf-tiny", other.path, base.avatar, TrainConfig(steps=4, overrides=QUICK, base=base.avatar))
    assert base.base.read_bytes() == before


def test_the_warp_comes_late(synthetic_dataset: Dataset) -> None:
    """From coarse to fine: without offsets until `warp_from`, and never with --set warp=off."""
    (objective,) = objectives(make_run(synthetic_dataset))
    generator = torch.Generator().manual_seed(0)
    logged = []
    for share in (0.0, 0.49, 0.5, 1.0):
        objective.share = share
        logged.append("bend" in objective(generator).logged)
    assert logged == [False, False, True, True]
    (without,) = objectives(make_run(synthetic_dataset, warp="off"))
    without.share = 1.0
    assert "bend" not in without(generator).logged and without.reference_field.position_warp is None


def test_a_step_does_not_look_up_what_it_renders(synthetic_dataset: Dataset) -> None:
    """References of a step are other frames of the speaker, or, in a share of the steps, the kept ones."""
    (objective,) = objectives(make_run(synthetic_dataset, own_share="0.5", cut="off"))
    generator, frames = torch.Generator().manual_seed(0), objective.scene.fit[:2]
    own, draws = objective.reference_field.references.references, 0
    for _ in range(40):
        found = objective.references(frames, generator)
        if torch.equal(found.pictures, own.pictures):
            draws += 1
            continue
        for picture, pose in zip(found.pictures, found.poses, strict=True):
            (number,) = [n for n, one in enumerate(objective.scene.poses) if torch.equal(one, pose)]
            assert number in objective.scene.fit and number not in frames
            assert torch.equal(picture, objective.scene.frames[number])
    assert 10 < draws < 30


def test_cut_references_show_head_and_neck_alone(synthetic_dataset: Dataset) -> None:
    """What is behind the speaker, and the torso, is black."""
    scene = make_run(synthetic_dataset).scenes[0]
    labels = scene.labels[scene.fit[:1]]
    inside = (labels == LABELS["head"]) | (labels == LABELS["neck"])
    cut, whole = (references_of(scene, scene.fit[:1], cut).pictures for cut in (True, False))
    assert not cut[~inside].any() and torch.equal(cut[inside], whole[inside]) and whole[~inside].any()


def test_offsets_count_where_nothing_dense_is() -> None:
    """Eq. (5) and (6): the mean length over references, weighted by what a sample lets through."""
    offsets = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[3.0, 4.0], [3.0, 4.0]]])
    found = bend_loss(offsets, torch.tensor([0.0, 100.0]), 0.01)
    torch.testing.assert_close(found, torch.tensor([2.5, 5 * float(np.exp(-1.0))]), rtol=1e-5, atol=1e-5)
    still = torch.zeros(1, 2, 2, requires_grad=True)
    bend_loss(still, torch.zeros(1), 0.01).sum().backward()
    assert still.grad is not None and bool(torch.isfinite(still.grad).all())


def test_a_stream_equals_a_clip(base: TrainResult) -> None:
    """To the bit, whatever the chunks, twice, at the trained size and another."""
    engine = Engine.load(base.avatars[1])
    rendered = engine.render(sound()).frames[:]
    streamed = np.stack(list(engine.stream(np.array_split(sound()[0], 5))))
    assert np.array_equal(streamed, rendered)
    assert np.array_equal(Engine.load(base.avatars[1]).render(sound()).frames[:], rendered)
    assert engine.render(sound(), size=48).frames[0].shape == (48, 48, 3)


def test_references_of_another_person_change_the_face(base: TrainResult) -> None:
    """Before any fine-tuning: the second speaker's pictures turn the first one's avatar towards him."""
    first, second = (Avatar.load(path) for path in base.avatars)
    plain = Engine(first, torch.device("cpu")).render(sound()).frames[0].astype(int)
    field, others = first.portrait.head.field, second.portrait.head.field
    assert isinstance(field, ReferenceField) and isinstance(others, ReferenceField)
    field.keep_references(others.references.references)
    changed = Engine(first, torch.device("cpu")).render(sound()).frames[0].astype(int)
    assert np.abs(changed - plain).max() > 3


def test_it_is_evaluated(base: TrainResult, synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """As every system."""
    config = EvaluateConfig(every=5, pictures=False)
    scores = evaluate(base.avatars[0], synthetic_dataset.path, tmp_path, config, detector=None)
    assert scores["system"] == "dfrf" and scores["psnr"] > 12


def test_it_teaches(base: TrainResult, synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """A light field learns from its segments as from an AD-NeRF's, and a motion code means the same to both,
    though the light field alone would not have the shared basis."""
    quick = {"speech_steps": "4", "distillation.frames": "4"}
    config = TrainConfig(steps=10, teacher=base.avatars[0], overrides=quick)
    history = train("nldf-tiny", synthetic_dataset.path, tmp_path / "student", config).history
    bases = [
        Avatar.load(path).portrait.head.driver.part("motion").basis.state_dict()
        for path in (base.avatars[0], tmp_path / "student")
    ]
    assert all(torch.equal(value, bases[1][name]) for name, value in bases[0].items())
    assert np.isfinite(history[-1]["segments"]) and history[-1]["segments"] > 0


@pytest.mark.parametrize("lost", [7, 15])
def test_a_stopped_run_resumes_to_the_same_weights(
    base: TrainResult, synthetic_dataset: Dataset, other: Dataset, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, lost: int,
) -> None:  # fmt: skip
    """Several speakers, before and with the warp; references and random state come back: equal to the bit."""
    data, config = [synthetic_dataset.path, other.path], TrainConfig(steps=20, overrides=QUICK)
    whole = train("dfrf-tiny", data, tmp_path / "whole", config)
    original = trainer_module.Trainer.step
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", 0.0)

    def fails(self: trainer_module.Trainer) -> torch.Tensor:
        if self.state.step == lost:
            raise OSError("the machine went away")
        return original(self)

    monkeypatch.setattr(trainer_module.Trainer, "step", fails)
    with pytest.raises(OSError, match="went away"):
        train("dfrf-tiny", data, tmp_path / "me", config)
    monkeypatch.undo()
    resumed = train("dfrf-tiny", data, tmp_path / "me", dataclasses.replace(config, resume=True))
    for ours, theirs in zip(resumed.avatars, whole.avatars, strict=True):
        one, two = Avatar.load(ours).portrait.state_dict(), Avatar.load(theirs).portrait.state_dict()
        assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert resumed.base is not None and whole.base is not None
    bases = [read_base(path).tensors for path in (resumed.base, whole.base)]
    assert all(torch.equal(value, bases[1][name]) for name, value in bases[0].items())


def test_speakers_may_have_other_cameras(synthetic_dataset: Dataset, other: Dataset) -> None:
    """Each speaker's references keep their own camera and size, and one network learns from both."""
    run = make_run(synthetic_dataset, other)
    camera = run.scenes[1].camera
    run.scenes[1].camera = dataclasses.replace(camera, fx=1.5 * camera.fx, fy=1.5 * camera.fy)
    found = objectives(run)
    views = [each.reference_field.references.views[0] for each in found]
    assert float(views[1][0] / views[0][0]) == pytest.approx(1.5)
    for each in found:
        assert bool(torch.isfinite(each(torch.Generator().manual_seed(0)).total))
    assert found[0].reference_field.extractor is found[1].reference_field.extractor
    assert found[0].reference_field.references is not found[1].reference_field.references


def test_speakers_may_have_other_sizes(synthetic_dataset: Dataset, other: Dataset) -> None:
    """References of another height: each field's configuration has its own."""
    run = make_run(synthetic_dataset, other)
    scene = run.scenes[1]
    scene.frames, scene.labels = scene.frames[:, :24], scene.labels[:, :24]
    scene.camera = dataclasses.replace(scene.camera, height=24)
    fields = [each.reference_field for each in objectives(run)]
    assert [field.config.picture for field in fields] == [(32, 32), (24, 32)]


def test_too_few_frames_are_refused(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Before anything is trained: the dataset, how many there are, how many are wanted, and what to do."""
    few = limited(synthetic_dataset, Stretch(0, 20, 1.0, 1.0))
    few.valid = few.valid.copy()
    few.valid[2:17] = False
    with pytest.raises(FileProblem, match=r"it has 3 usable training frames, and 5 references.*longer video"):
        stages(make_run(few, **{"references.count": "5"}))


@pytest.mark.parametrize(
    ("preset", "config", "message"),
    [
        ("dfrf-tiny", TrainConfig(base="nowhere"), "nowhere.*there is no such base"),
        ("dfrf-tiny", TrainConfig(base="bundled"), "base: none comes with the package for dfrf-tiny"),
        ("dfrf-tiny", TrainConfig(teacher=Path("x")), "does not learn from a teacher"),
        ("adnerf-tiny", TrainConfig(base="x"), "base: 'adnerf' begins from no base; leave it out"),
    ],
)
def test_what_can_not_be_trained_is_refused(
    synthetic_dataset: Dataset, tmp_path: Path, preset: str, config: TrainConfig, message: str
) -> None:
    """With the argument, what was expected, what came and a remedy; nothing is left behind."""
    with pytest.raises((ValueError, FileProblem), match=message):
        train(preset, synthetic_dataset.path, tmp_path / "me", config)
    assert list(tmp_path.iterdir()) == []


def test_the_bundled_base_is_one_of_dfrf_small(synthetic_dataset: Dataset) -> None:
    """It is small, of synthetic speakers alone, and all of it is found in the network that begins from it."""
    preset = find_preset("dfrf-small")
    assert preset.bundled_base is not None and preset.bundled_base.path.stat().st_size < 3_000_000
    assert preset.bundled_base.load()
    base = read_base(preset.bundled_base.path)
    assert {speaker["kind"] for speaker in base.info["provenance"]["trained_on"]} == {"synthetic"}
    bounds, conditions = Bounds(0.5, 1.0), ConditionConfig(motion=preset.recipe.driving.motion_codes)
    network = ReferenceField(preset.config(bounds, conditions))
    own = own_modules(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    base.fill(network, own, FrontendConfig("mel").resolve())
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in base.tensors.items() if name in state)
    assert sum(not torch.equal(state[name], before[name]) for name in before) > 30
