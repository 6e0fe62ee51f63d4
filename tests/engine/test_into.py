"""Clips inside the video that an avatar was filmed in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.footage import footage_of
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, HeadEdit
from nldf_engine.media.video import VideoWriter, probe, read_frames
from nldf_engine.rendering.footage import Footage

CUT = (30, 10, 64)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny_avatar(), torch.device("cpu"))


@pytest.fixture(scope="module")
def film(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset's frames within larger ones."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    x, y, side = CUT
    wide = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    with VideoWriter(path, 160, 90, crf=6) as writer:
        for frame in synthetic_dataset.frames(64):
            wide[y : y + side, x : x + side] = frame
            writer.write(wide)
    return path


@pytest.fixture(scope="module")
def dataset(synthetic_dataset: Dataset, film: Path) -> Dataset:
    """The dataset as if it had been cut out of that film."""
    info = dataclasses.replace(synthetic_dataset.info, source={"crop": list(CUT)})
    return Dataset(
        synthetic_dataset.path, info,
        {
            "poses": synthetic_dataset.poses, "landmarks": synthetic_dataset.landmarks,
            "eye_openness": synthetic_dataset.eye_openness, "valid": synthetic_dataset.valid,
            **synthetic_dataset.extra,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def footage(dataset: Dataset, film: Path, engine: Engine) -> Footage:
    """What the film shows, seen by the avatar's camera."""
    made = footage_of(dataset, film)
    own = engine.avatar.camera
    assert own.width < 64
    return dataclasses.replace(made, camera=own.scaled(64))


def features(frames: int) -> np.ndarray:
    return np.random.default_rng(1).random((frames, 16, 29)).astype(np.float32)


@pytest.mark.parametrize("region", ["head", "face", "mouth"])
def test_only_the_region_changes(engine: Engine, footage: Footage, film: Path, region: str) -> None:
    """Frames are the film's own size; far from the face they are the film's, in it they are the avatar's."""
    clip = engine.render(features(12), into=footage, region=region)
    frames, source = clip.frames[:], read_frames(film)[:12]
    assert frames.shape == source.shape == (12, 90, 160, 3)
    np.testing.assert_array_equal(frames[:, :, 130:], source[:, :, 130:])
    np.testing.assert_array_equal(frames[:, 84:], source[:, 84:])
    changed = np.abs(frames.astype(int) - source).max((0, 3)) > 8
    assert changed.any() and (changed[:, :20].sum() == 0)
    np.testing.assert_array_equal(clip.frames[5], frames[5])
    np.testing.assert_array_equal(clip.frames[4:9:2], frames[4:9:2])


def test_it_is_saved_with_its_sound(engine: Engine, footage: Footage, tmp_path: Path) -> None:
    """At the film's size, for as long as the sound, though the film is shorter."""
    sound = np.random.default_rng(0).normal(0, 0.1, round(16000 * 4.8)).astype(np.float32)
    clip = engine.render((sound, 16000), into=footage)
    assert len(clip) == 120 > len(footage)
    info = probe(clip.save(tmp_path / "out.mp4", provenance=False))
    assert (info.width, info.height, info.has_audio) == (160, 90, True)


def test_what_has_no_place_beside_it(engine: Engine, footage: Footage) -> None:
    """Poses, backgrounds and head edits are the film's; another camera, or no frame to show, is named."""
    for name, value in {"poses": "still", "background": "navy", "edit": Edit(HeadEdit(yaw=3))}.items():
        with pytest.raises(ValueError, match="with `into`"):
            engine.render(features(4), into=footage, **{name: value})
    with pytest.raises(ValueError, match="region: expected one of head, face, mouth"):
        engine.render(features(4), into=footage, region="nose")
    near = dataclasses.replace(footage.camera, fx=2 * footage.camera.fx)
    with pytest.raises(ValueError, match="another camera"):
        engine.render(features(4), into=dataclasses.replace(footage, camera=near))
    hidden = dataclasses.replace(footage, usable=np.zeros(len(footage), bool))
    with pytest.raises(ValueError, match="at least one usable"):
        engine.render(features(4), into=hidden)
    with pytest.raises(ValueError, match="tracks of 100 frames"):
        dataclasses.replace(footage, eyes=footage.eyes[:3])


def test_only_the_datasets_own_video_is_taken(dataset: Dataset, film: Path, tmp_path: Path) -> None:
    """Another file by its digest, another cut by its picture, a dataset that says nothing of its cut."""

    def with_source(**source: object) -> Dataset:
        track = {name: getattr(dataset, name) for name in ("poses", "landmarks", "eye_openness", "valid")}
        info = dataclasses.replace(dataset.info, source=source)
        return Dataset(dataset.path, info, track | dataset.extra)

    with pytest.raises(FileProblem, match="it is not the video of"):
        footage_of(with_source(crop=list(CUT), sha256="0" * 64), film)
    with pytest.raises(FileProblem, match="frame 0 of it"):
        footage_of(with_source(crop=[60, 10, 64]), film)
    with pytest.raises(FileProblem, match="where in its video"):
        footage_of(with_source(kind="synthetic"), film)
    with pytest.raises(FileProblem, match="frame 0 of it"):
        footage_of(with_source(crop=list(CUT), turned=90), film)
    with pytest.raises(FileProblem):
        footage_of(dataset, tmp_path / "none.mp4")
