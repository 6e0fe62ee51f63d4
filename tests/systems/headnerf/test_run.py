"""HeadNeRF from datasets to avatars: it learns, resumes, swaps, streams, is evaluated, and refuses
clearly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, LookEdit
from nldf_engine.evaluation import EvaluateConfig, evaluate
from nldf_engine.systems.headnerf.objective import HeadNeRFObjective
from nldf_engine.training import TrainConfig, check_settings, train
from nldf_engine.training import trainer as trainer_module

STEPS = 60
QUICK = {"speech_steps": "10", "extractor_steps": "10", "sync_steps": "10"}


@pytest.fixture(scope="module")
def trained(
    synthetic_dataset: Dataset, twin: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[Path, ...], list[dict[str, float]]]:
    path = tmp_path_factory.mktemp("headnerf") / "me"
    data = [synthetic_dataset.path, twin.path]
    # Its last weights are kept, whatever the few validation frames prefer.
    config = TrainConfig(steps=120, overrides=QUICK | {"final_share": "0.3"})
    result = train("headnerf-tiny", data, path, config)
    return result.avatars, result.history


def sound() -> tuple[np.ndarray, int]:
    return np.random.default_rng(0).uniform(-0.2, 0.2, 12800).astype(np.float32), 16000


def test_it_learns_two_speakers(trained: tuple[tuple[Path, ...], list[dict[str, float]]]) -> None:
    """The error falls; each avatar knows its speaker, and what the loss of pictures was."""
    paths, history = trained
    assert min(row["photometric"] for row in history[-4:]) < 0.7 * history[0]["photometric"]
    avatars = [Avatar.load(path) for path in paths]
    assert [int(avatar.portrait.head.driver.identity.own) for avatar in avatars] == [0, 1]
    assert [int(avatar.portrait.head.driver.albedo.own) for avatar in avatars] == [0, 1]
    notes = avatars[0].provenance["settings"]["notes"]
    assert notes["perceptual_loss"] in ("VGG16", "SSIM and gradients")
    first, second = (avatar.portrait.head.field.state_dict() for avatar in avatars)
    apart = {name.split(".")[1] for name in first if not torch.equal(first[name], second[name])}
    assert apart == {"face", "expression", "identity", "albedo", "illumination"}, "motion, map, own numbers"
    usual = [avatar.portrait.head.driver.illumination.usual.numbers for avatar in avatars]
    assert float(usual[0].abs().max()) > 0.01, "counted from the mean of both"
    torch.testing.assert_close(usual[0], -usual[1])
    assert float(usual[0][0]) == 0, "how bright a speaker usually is is the albedo's"


def test_each_speakers_colours_are_its_own(
    synthetic_dataset: Dataset, twin: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training, a speaker's frames have the speaker's own row of both tables."""
    seen = {}
    original = HeadNeRFObjective.codes

    def looked(self: HeadNeRFObjective, *given: Any) -> torch.Tensor:
        code = original(self, *given)
        seen[self.scene.identity] = code.detach()[:, self.places["albedo"]], self.head.driver.albedo.table
        return code

    monkeypatch.setattr(HeadNeRFObjective, "codes", looked)
    config = TrainConfig(steps=6, overrides=QUICK)
    train("headnerf-tiny", [synthetic_dataset.path, twin.path], tmp_path / "me", config)
    assert sorted(seen) == [0, 1]
    table = seen[0][1].detach()
    for number, (albedo, _) in seen.items():
        near = (albedo[0] - table).abs().amax(1)
        assert int(near.argmin()) == number and float(near[1 - number]) > 0.1


def test_a_stream_equals_a_clip(trained: tuple[tuple[Path, ...], list[dict[str, float]]]) -> None:
    """To the bit, whatever the chunks."""
    engine = Engine.load(trained[0][0])
    rendered = engine.render(sound()).frames[:]
    streamed = np.stack(list(engine.stream(np.array_split(sound()[0], 5))))
    assert np.array_equal(streamed, rendered)


def test_swaps_change_the_picture(trained: tuple[tuple[Path, ...], list[dict[str, float]]]) -> None:
    """One speaker's avatar under the other's number for both codes is another picture, each way."""
    engine = Engine.load(trained[0][0])
    plain = engine.render(sound()).frames[0].astype(int)
    for look in (LookEdit(albedo=1), LookEdit(identity=1, albedo=1)):
        edited = engine.render(sound(), edit=Edit(look=look)).frames[0]
        assert np.abs(edited - plain).max() > 3, look
    with pytest.raises(ValueError, match="albedo: the avatar was trained with the speakers 0 to 1, got 2"):
        engine.render(sound(), edit=Edit(look=LookEdit(albedo=2)))


def test_it_is_evaluated(
    trained: tuple[tuple[Path, ...], list[dict[str, float]]], synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """As every system, with tracked brows."""
    scores = evaluate(
        trained[0][0],
        synthetic_dataset.path,
        tmp_path,
        EvaluateConfig(every=5, pictures=False),
        detector=None,
    )
    assert scores["system"] == "headnerf" and scores["psnr"] > 10 and scores["upper"] == "tracked"


@pytest.mark.parametrize("lost", [13, 50])
def test_a_stopped_run_resumes_to_the_same_weights(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Offsets, extractor, lip module and random state come back: weights equal to the bit."""
    config = TrainConfig(steps=STEPS, overrides=QUICK | {"final_share": "0.3"})
    whole = train("headnerf-tiny", synthetic_dataset.path, tmp_path / "whole", config)
    original = trainer_module.Trainer.step
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", 0.0)

    def fails(self: trainer_module.Trainer) -> torch.Tensor:
        if self.state.step == lost:
            raise OSError("the machine went away")
        return original(self)

    monkeypatch.setattr(trainer_module.Trainer, "step", fails)
    with pytest.raises(OSError, match="went away"):
        train("headnerf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    monkeypatch.undo()
    again = TrainConfig(steps=STEPS, overrides=QUICK | {"final_share": "0.3"}, resume=True)
    resumed = train("headnerf-tiny", synthetic_dataset.path, tmp_path / "me", again)
    assert [row["step"] for row in resumed.history] == [row["step"] for row in whole.history]
    ours, theirs = (Avatar.load(result.avatar).portrait.state_dict() for result in (resumed, whole))
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert different == []


def test_an_ablation_is_an_override(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Without lip sync and disentangling there are neither stages nor codes of theirs, and it still
    renders."""
    overrides = QUICK | {"sync_weight": "0", "disentangle_weight": "0"}
    result = train(
        "headnerf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=10, overrides=overrides)
    )
    assert not {"sync", "disentangle", "swap"} & set(result.history[-1])
    avatar = Avatar.load(result.avatar)
    assert avatar.portrait.head.config.codes.lip == 0
    engine = Engine(avatar, torch.device("cpu"))
    assert engine.render(sound()).frames[0].shape == (32, 32, 3)
    with pytest.raises(ValueError, match=r"identity: expected an avatar of several speakers.*train them"):
        engine.render(sound(), edit=Edit(look=LookEdit(identity=1)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            TrainConfig(size=33),
            r"size: 1 upsampling stages reach multiples of 2 pixels up to 4096, got 33; .*nearest size: 32",
        ),
        (TrainConfig(weights=Path("nowhere-at-all")), "nowhere-at-all.*no such folder"),
        (TrainConfig(teacher=Path("x")), "does not learn from a teacher"),
    ],
)
def test_what_can_not_be_trained_is_refused(
    synthetic_dataset: Dataset, tmp_path: Path, config: TrainConfig, message: str
) -> None:
    """Before anything is trained, with the argument, what was expected, what came and a remedy."""
    with pytest.raises(Exception, match=message) as caught:
        train("headnerf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    assert type(caught.value).__name__ in ("ValueError", "FileProblem")
    assert not (tmp_path / "me").exists()


def test_a_dataset_given_twice_is_refused(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Two speakers with one face could not be told apart; a copy under another name is found as well."""
    copied = shutil.copytree(synthetic_dataset.path, tmp_path / "copy")
    with pytest.raises(FileProblem, match=r"copy: it is the same dataset as .* name it once"):
        train("headnerf-tiny", [synthetic_dataset.path, copied], tmp_path / "me")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_weights_are_for_losses_that_use_them() -> None:
    """A folder that nothing would read is refused, before any file is looked at."""
    with pytest.raises(ValueError, match="weights: the losses of 'nldf-fast' use no public weights"):
        check_settings("nldf-fast-tiny", TrainConfig(weights=Path("weights")))
    check_settings("headnerf-tiny", TrainConfig(weights=Path("weights")))


def test_a_folder_without_the_weights_is_refused(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names a folder wants VGG16: no run begins with the substitute, and none does with half a file."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    folder = tmp_path / "weights"
    folder.mkdir()
    config = TrainConfig(weights=folder)
    with pytest.raises(FileProblem, match=r"weights: it does not hold vgg16.*leave out the folder"):
        train("headnerf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    (folder / "vgg16-397923af.pth").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(FileProblem, match=r"vgg16-397923af\.pth: it does not hold VGG16's weights"):
        train("headnerf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_the_substitute_is_said(
    synthetic_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Without VGG16's file standard error and the avatar say what serves in its place; resuming checks it."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    overrides: dict[str, Any] = QUICK | {"perceptual_share": "1"}
    result = train(
        "headnerf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=6, overrides=overrides)
    )
    assert "SSIM and gradients, in VGG16's place" in capsys.readouterr().err
    settings = Avatar.load(result.avatar).provenance["settings"]
    assert settings["notes"] == {"perceptual_loss": "SSIM and gradients"}
