"""Runs over several datasets, and batches that know their speaker and their pixel grid."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from fields import seeded
from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.avatar.provenance import Consent
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.systems.common.motion import MotionBasis, UpperBasis
from nldf_engine.training import TrainConfig, check_settings, train
from nldf_engine.training.motion import fit_basis, fit_upper
from nldf_engine.training.samplers import PatchSampler, whole_frames
from nldf_engine.training.scene import RayScene, Scenes


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = SyntheticConfig(seconds=3.0, size=64, seed=5, looks=3, audio_frontend="mel")
    return make_synthetic_dataset(tmp_path_factory.mktemp("second") / "speaker", config)


def assert_own_codes(avatar: Avatar, data: Dataset) -> None:
    """The avatar's motion codes, and those of its upper face, are fitted to its own speaker."""
    fit = torch.from_numpy(data.indices("fit"))
    motion, upper = (avatar.portrait.head.driver.part(name) for name in ("motion", "upper"))
    own = MotionBasis(motion.dim)
    fit_basis(own, data, fit)
    assert torch.allclose(motion.basis.mean, own.mean, atol=1e-6)
    own_upper = UpperBasis(upper.dim)
    fit_upper(own_upper, data, fit)
    assert torch.allclose(upper.mean, own_upper.mean, atol=1e-6)


def test_two_speakers_learn_in_one_network(
    synthetic_dataset: Dataset, second: Dataset, tmp_path: Path
) -> None:
    """One network learns both; each avatar shows its own speaker, and resumes to the same weights."""
    data = [synthetic_dataset.path, second.path]
    config = TrainConfig(steps=60, overrides={"speech_steps": "5"})
    result = train("nldf-fast-tiny", data, tmp_path / "me", config)
    assert result.avatars == (tmp_path / "me", tmp_path / "me-2")
    assert result.history[-1]["pixel"] < 0.7 * result.history[0]["pixel"]
    avatars = [Avatar.load(path) for path in result.avatars]
    assert [int(avatar.portrait.head.driver.part("identity").own) for avatar in avatars] == [0, 1]
    assert [avatar.provenance["dataset"] for avatar in avatars] == [
        synthetic_dataset.hash(), second.hash()
    ]  # fmt: skip
    first, other = (avatar.portrait.head.field.state_dict() for avatar in avatars)
    shared = [name for name in first if not name.startswith("encoder.") and "frame_" not in name]
    assert all(torch.equal(first[name], other[name]) for name in shared)
    field = avatars[0].portrait.head.field
    assert field.config.bounds.near == min(synthetic_dataset.info.near, second.info.near)
    assert field.config.bounds.far == max(synthetic_dataset.info.far, second.info.far)
    places = [torch.from_numpy(one.poses[one.indices("fit"), :3, 3]) for one in (synthetic_dataset, second)]
    assert torch.allclose(field.frame_mean[:3], torch.cat(places).mean(0), atol=1e-6)
    for avatar in avatars:
        points, box = avatar.portrait.head.region.points(), field.box
        assert bool(((points >= box[:2]) & (points <= box[2:])).all()), "the grids cover every speaker"
    for avatar, data in zip(avatars, (synthetic_dataset, second), strict=True):
        assert_own_codes(avatar, data)
    silence = np.zeros((2, 16, 29), np.float32)
    seen = [Engine(avatar, torch.device("cpu")).render(silence, "still").frames[0] for avatar in avatars]
    real = [one.frames(32)[0].astype(float) for one in (synthetic_dataset, second)]
    own, swapped = ([np.abs(a - b).mean() for a, b in zip(seen, order, strict=True)] for order in (
        real, real[::-1]))  # fmt: skip
    assert max(own) < min(swapped)


def test_a_batch_knows_its_speaker_and_its_grid(synthetic_dataset: Dataset, second: Dataset) -> None:
    """Scenes number their speakers; patches keep rows and columns apart by one scale, inside the frame."""
    scenes = Scenes(
        [RayScene(data, 32, FrontendConfig(), torch.device("cpu")) for data in (synthetic_dataset, second)]
    )
    generator = seeded()
    assert scenes[1].conditions.get("identity").unique().tolist() == [1]
    frames = scenes[1].fit[:3]
    pixels, grid = PatchSampler(32, 32, 8, (1.0, 3.0)).draw(frames, generator)
    batch = scenes[1].batch(frames, pixels, grid=grid)
    assert batch.identity == 1 and batch.grid == (8, 8)
    rows, columns = (pixels // 32).view(3, 8, 8), (pixels % 32).view(3, 8, 8)
    assert bool((rows == rows[:, :, :1]).all()) and bool((columns == columns[:, :1]).all())
    for places in (rows[:, :, 0], columns[:, 0]):
        steps = places.diff(dim=1)
        assert int(steps.min()) >= 1 and int(steps.max()) <= 3
    pixels, grid = whole_frames(frames, 32, 32)
    assert grid == (32, 32) and torch.equal(pixels[0], torch.arange(1024))
    picture = scenes[1].batch(frames, pixels, grid=grid).target.view(3, *grid, 3)
    assert torch.equal(picture, scenes[1].frames[frames].float() / 255)
    with pytest.raises(ValueError, match="patches"):
        PatchSampler(32, 32, 40)


def test_one_scene_has_no_identities(synthetic_dataset: Dataset) -> None:
    """The simple case stays simple: what is one speaker's alone has no track that says whose it is."""
    scenes = Scenes([RayScene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"))])
    assert scenes[0].conditions.get("identity") is None


def test_what_is_one_speakers_is_refused_for_several(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """One person's consent is not written into another's avatar, nor a kept step over one."""
    data, consent = [synthetic_dataset.path] * 2, Consent("given", "Ada Lovelace", "2026-01-31", "for tests")
    for config, name in ((TrainConfig(consent=consent), "consent"), (TrainConfig(keep=(2,)), "keep")):
        with pytest.raises(ValueError, match=f"{name}: .* 2 speakers"):
            train("nldf-fast-tiny", data, tmp_path / "me", config)
        with pytest.raises(ValueError, match=f"{name}: .* 2 speakers"):
            check_settings("nldf-fast-tiny", config, 2)
    assert not list(tmp_path.iterdir())


def test_of_a_long_video_some_pictures_are_looked_at(synthetic_dataset: Dataset) -> None:
    """As many as fit; the others are not kept, and are heard all the same."""
    whole = RayScene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"))
    assert whole.every == 1 and torch.equal(whole.fit, whole.heard)
    held_out = synthetic_dataset.indices("heldout")
    assert whole.frames[whole.fit].any() and not whole.frames[held_out].any()
    most = 4 * 32 * 32 * (len(whole.kept) // 2 - 1)
    half = RayScene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"), most=most)
    assert half.every == 3 and torch.equal(half.heard, whole.fit) and torch.equal(half.fit, whole.fit[::3])
    assert torch.equal(half.heard_validation, whole.validation)
    assert torch.equal(half.validation, whole.validation[::3]) and 4 * 32 * 32 * len(half.kept) <= most
    left_out = sorted({*half.heard.tolist()} - {*half.fit.tolist()})
    assert not half.frames[left_out].any() and not half.labels[left_out].any()
    kept = torch.cat([half.fit, half.validation])
    assert torch.equal(half.frames[kept], whole.frames[kept])
    half.final_phase()
    assert {*half.frame_pool.tolist()} == {*kept.tolist()}


def test_a_video_without_usable_frames_is_told(synthetic_dataset: Dataset) -> None:
    """In words about the video."""
    blind = copy.copy(synthetic_dataset)
    blind.valid = np.zeros(len(synthetic_dataset), bool)
    with pytest.raises(FileProblem, match="0 usable training and 0 validation frames, too few"):
        RayScene(blind, 32, FrontendConfig(), torch.device("cpu"))
