"""Clips inside the video that an avatar was filmed in."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from films import CUT, film_of, seen_by
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.footage import footage_of
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, HeadEdit
from nldf_engine.media.video import probe, read_frames
from nldf_engine.rendering.footage import Footage


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny_avatar(), torch.device("cpu"))


@pytest.fixture(scope="module")
def filmed(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """See `film_of`."""
    return film_of(synthetic_dataset, tmp_path_factory.mktemp("film"))


@pytest.fixture(scope="module")
def film(filmed: tuple[Path, Path]) -> Path:
    """The dataset's frames within larger ones."""
    return filmed[0]


@pytest.fixture(scope="module")
def dataset(filmed: tuple[Path, Path]) -> Dataset:
    """The dataset as if it had been cut out of that film."""
    return Dataset.open(filmed[1])


@pytest.fixture(scope="module")
def footage(filmed: tuple[Path, Path], engine: Engine) -> Footage:
    """What the film shows, seen by the avatar's camera."""
    return seen_by(engine.avatar.camera, *filmed)


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


def samples(seconds: float) -> np.ndarray:
    return np.random.default_rng(2).normal(0, 0.1, round(16000 * seconds)).astype(np.float32)


def test_a_session_pastes_as_a_clip_does(engine: Engine, footage: Footage) -> None:
    """Frame by frame, also where frames are left out, and over the end of the film."""
    sound = samples(6.4)
    session = engine.session(into=footage, region="head")
    frames = [frame.picture for frame in (*session.push(sound), *session.finish())]
    assert len(frames) == 160 > len(footage) and {frame.shape for frame in frames} == {(90, 160, 3)}
    whole = engine.render((sound, 16000), into=footage, region="head").frames[:]
    np.testing.assert_array_equal(np.stack(frames)[:-5], whole[:-5])  # a clip's end is evened as an end
    left_out = engine.session(into=footage, region="head")
    left_out.frames(sound)
    for _ in range(30):
        assert left_out.skip()
    after = next(left_out.frames(np.zeros(0, np.float32))).picture
    source = engine.session(into=footage).frames(sound)
    for _ in range(30):
        next(source)
    np.testing.assert_array_equal(after[:, 130:], next(source).picture[:, 130:])
    session.close()


def test_a_live_session_pastes(engine: Engine, footage: Footage) -> None:
    """On its clock, through an interruption; what the film decides can't be set."""
    now = [0.0]
    live = engine.live(into=footage, region="mouth", clock=lambda: now[0])
    live.push((samples(1.0), 16000))
    shown = []
    for number in range(130):
        now[0] = number / 25
        if number == 60:
            live.interrupt()
        frame = live.take()
        assert frame is not None and frame.picture is not None
        shown.append(frame.picture)
    assert len(shown) > len(footage) and {picture.shape for picture in shown} == {(90, 160, 3)}
    for name, value in {"poses": "still", "background": "navy", "edit": Edit(HeadEdit(yaw=3))}.items():
        with pytest.raises(ValueError, match="with `into`"):
            setattr(live, name, value)
    live.edit = Edit()
    track = live.poses
    for same in (None, track):  # what "default" means, and what is there, change nothing
        live.poses = same
        assert live.poses is track
    live.close()
    with pytest.raises(ValueError, match="region: expected one of"):
        engine.live(into=footage, region="nose")


def test_a_stream_lets_go_of_the_film(engine: Engine, footage: Footage) -> None:
    """Its thread that reads in advance ends with it."""
    before = {thread.ident for thread in threading.enumerate()}
    with engine.stream([samples(1.0)], into=footage) as frames:
        assert next(frames).shape == (90, 160, 3)
        assert {thread.ident for thread in threading.enumerate()} - before
    assert not {thread.ident for thread in threading.enumerate()} - before
