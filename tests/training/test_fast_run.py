"""nldf-fast on the synthetic speaker: it learns fast, resumes, distils, and keeps no frame's correction."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fields import seeded
from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.ops import aim_rays
from nldf_engine.rendering.region import HeadRegion, plane_points
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.training import TrainConfig, find_preset, train
from nldf_engine.training import trainer as trainer_module
from nldf_engine.training.bases import read_base
from nldf_engine.training.corrections import FrameCorrections
from nldf_engine.training.recipe import Sampling
from nldf_engine.training.scene import RayScene

STEPS = 60


@pytest.fixture(scope="module")
def trained(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    path = tmp_path_factory.mktemp("fast") / "me"
    return path, train("nldf-fast-tiny", synthetic_dataset.path, path, TrainConfig(steps=STEPS)).history


def test_it_learns_and_its_avatar_renders(trained: tuple[Path, list[dict]]) -> None:
    """Validation gains half a decibel in a few steps; the avatar loads, with a learned torso, and renders."""
    path, history = trained
    assert max(row["psnr"] for row in history if "psnr" in row) > history[0]["psnr"] + 0.5
    assert history[-1]["pixel"] < 0.6 * history[0]["pixel"]
    avatar = Avatar.load(path)
    assert avatar.system == "nldf-fast" and isinstance(avatar.portrait.torso, TorsoLayer)
    clip = Engine(avatar, torch.device("cpu")).render(np.zeros((3, 16, 29), np.float32))
    assert clip.frames[:].shape == (3, 32, 32, 3)


def test_no_frames_correction_is_kept(trained: tuple[Path, list[dict]]) -> None:
    """The corrections moved while training, and nothing in the avatar has a row a frame."""
    path, history = trained
    assert history[-1]["correction"] > 0
    avatar = Avatar.load(path)
    names = set(avatar.portrait.state_dict())
    assert not any("correction" in name for name in names)
    fresh = find_preset("nldf-fast-tiny").recipe
    assert fresh.regularisation.correction > 0


def test_a_start_that_speakers_share(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Without codes of who speaks a run of several leaves a start; a new speaker begins with its networks and
    fits the code's scales of its own; with such codes there is none."""
    quick = {"speech_steps": "5", "spread": "off", "rays": "256", "shared_basis": "on"}
    other = SyntheticConfig(seconds=4.0, size=64, seed=2, looks=1, audio_frontend="mel")  # looks alike
    both = [synthetic_dataset.path, make_synthetic_dataset(tmp_path / "other", other).path]

    def run(paths: Any, name: str, steps: int, **more: Any) -> Any:
        codes = {"identity_codes": more.pop("codes", "0")}
        config = TrainConfig(steps=steps, overrides=quick | codes, **more)
        return train("nldf-fast-tiny", paths, tmp_path / name, config)

    start = run(both, "start", 60)
    assert start.base is not None and run(both, "known", 2, codes="2").base is None
    begun, fresh = (
        run(both[0], name, 4, base=base).history[0]["pixel"]
        for name, base in (("begun", start.avatar), ("fresh", None))
    )
    assert begun < 0.7 * fresh
    shared = read_base(start.base).tensors
    field = Avatar.load(tmp_path / "begun").portrait.head.field
    moved = [float((value - shared[name]).abs().max()) for name, value in field.state_dict().items()
             if name in shared and value.is_floating_point()]  # fmt: skip
    assert 0 < max(moved) < 0.5


@pytest.mark.parametrize("lost", [20, 50])
def test_a_stopped_run_resumes_to_the_same_curve(
    synthetic_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained: tuple[Path, list[dict]],
    lost: int,
) -> None:
    """Corrections, optimiser state and the grids' groups come back: the history is the undisturbed one."""
    original = trainer_module.Trainer.step
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", 0.0)

    def fails(self: trainer_module.Trainer) -> float:
        if self.state.step == lost:
            raise OSError("the machine went away")
        return original(self)

    monkeypatch.setattr(trainer_module.Trainer, "step", fails)
    with pytest.raises(OSError, match="went away"):
        train("nldf-fast-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=STEPS))
    monkeypatch.undo()
    config = TrainConfig(steps=STEPS, resume=True)
    resumed = train("nldf-fast-tiny", synthetic_dataset.path, tmp_path / "me", config).history
    for ours, theirs in zip(resumed, trained[1], strict=True):
        assert ours["step"] == theirs["step"]
        for name in ("psnr", "pixel", "correction"):
            assert (name in ours) == (name in theirs)
            assert ours.get(name, 0.0) == pytest.approx(theirs.get(name, 0.0), rel=1e-4)


def test_a_run_closes_on_all_of_the_training_part(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut is left alone while it validates, then trained on; held-out frames never are, and the last
    weights are kept. A larger budget goes on from before the closing."""
    seen: dict[int, set[int]] = {}
    original = RayScene.draw

    def noted(self: RayScene, frames: torch.Tensor, *given: Any) -> torch.Tensor:
        seen.setdefault(trainers[-1].state.step, set()).update(frames.tolist())
        return original(self, frames, *given)

    trainers: list[trainer_module.Trainer] = []
    run = trainer_module.Trainer.run

    def running(self: trainer_module.Trainer, label: str) -> None:
        trainers.append(self)
        run(self, label)

    monkeypatch.setattr(RayScene, "draw", noted)
    monkeypatch.setattr(trainer_module.Trainer, "run", running)

    def steps_with(frames: set[int]) -> list[int]:
        return sorted(step for step, drawn in seen.items() if drawn & frames)

    parts = [set(synthetic_dataset.indices(name).tolist()) for name in ("fit", "validation", "heldout")]
    share = {"closing_share": "0.5", "speech_steps": "2"}
    result = train(
        "nldf-fast-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(steps=40, overrides=share)
    )
    assert steps_with(parts[0]) == list(range(40))
    assert set(steps_with(parts[1])) <= set(range(20, 40)) and len(steps_with(parts[1])) > 3
    assert steps_with(parts[2]) == []
    told = [row["step"] for row in result.history if "psnr" in row]
    assert max(told) == 20 and result.history[-1]["step"] == 40
    kept, last = Avatar.load(tmp_path / "me").portrait.state_dict(), trainers[-1].network.state_dict()
    torch.testing.assert_close(kept["field.tail.weight"], last["field.tail.weight"])
    seen.clear()
    longer = TrainConfig(steps=100, overrides=share, resume=True)
    result = train("nldf-fast-tiny", synthetic_dataset.path, tmp_path / "me", longer)
    assert steps_with(parts[0]) == list(range(20, 100))
    assert min(steps_with(parts[1])) >= 50
    assert max(row["step"] for row in result.history if "psnr" in row) == 50


def test_it_learns_from_a_teacher_of_more_segments(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """The teacher's four segments are summed to the student's one, and that loss falls."""
    train("adnerf-tiny", synthetic_dataset.path, tmp_path / "teacher", TrainConfig(steps=20))
    config = TrainConfig(steps=40, teacher=tmp_path / "teacher")
    history = train("nldf-fast-tiny", synthetic_dataset.path, tmp_path / "me", config).history
    assert 0 < history[-1]["segments"] < history[0]["segments"]


def test_corrections_move_the_plane_and_leave_the_camera() -> None:
    """A shift moves where rays cross the plane; origins stay; equal corrections of all frames cancel."""
    corrections = FrameCorrections(4, torch.tensor([0, 1, 2]), radius=0.2)
    origins = torch.tensor([0.0, 0, -0.8]).expand(2, 5, 3).contiguous()
    towards = torch.nn.functional.normalize(torch.tensor([0.0, 0, 1]) + 0.1 * torch.randn(2, 5, 3), dim=-1)
    frames, region = torch.tensor([0, 1]), HeadRegion()

    def aimed() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        turns = corrections.turns(corrections.of(frames))
        still = torch.zeros(2, 3)
        return aim_rays(origins, towards, still, turns, region.occupancy, region.half_size, -0.04)

    with torch.no_grad():
        corrections.numbers[:, 4] = 7.0
    same = aimed()
    torch.testing.assert_close(same[1], towards, atol=1e-6, rtol=0)
    with torch.no_grad():
        corrections.numbers[0, 4] += 3.0
    moved = aimed()
    before, after = plane_points(origins, towards), plane_points(*moved[:2])
    torch.testing.assert_close(after[0, :, 0] - before[0, :, 0], torch.full((5,), 0.05 * 0.2 * 2.0))
    assert torch.equal(moved[0], origins)
    corrections.size(corrections.of(frames)).backward()
    assert float(corrections.numbers.grad.abs().sum()) > 0


@torch.no_grad()
def test_corrections_hold_nothing_that_a_pose_tells() -> None:
    """What goes with a known number of a frame is taken off, also in frames that are not trained on; what
    does not go with it stays, and frames that join later begin without a correction."""
    generator = seeded()
    known = torch.randn(100, 3, generator=generator) * torch.tensor([1.0, 1e-3, 50.0])
    fit = torch.arange(80)
    corrections = FrameCorrections(100, fit, 0.2, torch.cat([known, known[:, :1]], 1))  # one column twice
    own = torch.zeros(100, 6)
    own[3, 5] = 1.0
    corrections.numbers.copy_(2 + known @ torch.randn(3, 6, generator=generator))
    assert float(corrections.of(torch.arange(100)).abs().max()) < 1e-3
    corrections.numbers.add_(own)
    left = corrections.of(fit)
    assert 0.8 < float(left[3, 5]) < 1 and float((left - own[:80]).abs().max()) < 0.2
    corrections.numbers[90:] += 5.0
    assert float(corrections.of(torch.arange(90, 100)).abs().min()) > 4
    corrections.begin(torch.arange(80, 100))
    assert float(corrections.of(torch.arange(80, 100)).abs().max()) < 1e-4


@pytest.mark.parametrize("frames", [3, 7, 12])
@torch.no_grad()
def test_few_frames_keep_their_corrections(frames: int) -> None:
    """So many known numbers that they would explain all of a short clip's corrections do not."""
    fit = torch.arange(frames)
    corrections = FrameCorrections(frames, fit, 0.2, torch.randn(frames, 20, generator=seeded()))
    corrections.numbers[0] = 1.0
    assert float(corrections.of(fit)[0, 0]) > 0.5


def test_shares_are_drawn_where_they_say(synthetic_dataset: Dataset) -> None:
    """Mouth and eye boxes, the speaker, and the frame get their shares of each frame's pixels."""
    scene = RayScene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"), learned_torso=True)
    frames, sampler = scene.fit[:3], scene._sampler
    pixels = sampler.draw(
        frames,
        100,
        Sampling(face_share=0.4, mouth_share=0.3, eyes_share=0.1, person_share=0.4, frame_share=0.2),
        seeded(),
    )
    assert pixels.shape == (3, 100)
    x, y = pixels % 32, pixels // 32
    box = sampler.mouths[frames]
    inside = (x >= box[:, :1]) & (x <= box[:, 2:3]) & (y >= box[:, 1:2]) & (y <= box[:, 3:])
    assert bool(inside[:, :30].all())
    on = scene.labels[frames[:, None], y, x] > 0
    assert bool(on[:, 40:80].all()) and float(on.float().mean()) < 1
    assert sampler.draw(frames, 64, Sampling(face_share=0.5), seeded()).shape == (3, 64)
