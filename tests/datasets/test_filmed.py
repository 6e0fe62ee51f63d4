"""Which pixels of a dataset were filmed, and that refinement looks at no others."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.datasets.footage import Filmed
from nldf_engine.evaluation.real_clip import real_clip
from nldf_engine.media.video import VideoInfo
from nldf_engine.prepare.config import RefineConfig
from nldf_engine.prepare.faces import Crop
from nldf_engine.prepare.refine import _Refinement
from nldf_engine.prepare.run import _Preparation
from nldf_engine.prepare.shots import Shots
from nldf_engine.prepare.source import BORDER, Source
from nldf_engine.prepare.view import View

SECOND = 20  # the frame at which the second shot begins


@pytest.fixture
def cut(synthetic_dataset: Dataset) -> Dataset:
    """The dataset as if cut out of 100 x 120 pixels at (10, 20), with a second shot that is enlarged by a
    quarter about the video's upper left corner."""
    data = copy.copy(synthetic_dataset)
    place = np.array([np.eye(2, 3), np.diag([1.25, 1.25, 1])[:2]])
    data.extra = {**data.extra, "shots": np.array([0, SECOND]), "shot_place": place}
    source = {**data.info.source, "crop": [10.0, 20.0, 80.0], "width": 100, "height": 120, "turned": 0}
    data.info = replace(data.info, source=source)
    return data


def test_what_a_shot_does_not_show_is_not_filmed(cut: Dataset) -> None:
    """The second shot shows the video up to x = 80, y = 96 of the first one's pixels."""
    filmed = Filmed(cut, 40)  # two pixels of the video each
    assert filmed(SECOND - 1).all()
    seen = filmed(SECOND)
    np.testing.assert_array_equal(seen.any(0), np.arange(40) < (80 - 10) / 2)
    np.testing.assert_array_equal(seen.any(1), np.arange(40) < (96 - 20) / 2)
    np.testing.assert_array_equal(seen, seen.any(1)[:, None] & seen.any(0))


def test_a_video_on_its_side_has_its_sides_exchanged(cut: Dataset) -> None:
    """Sizes of the file are those before it is turned."""
    source = {**cut.info.source, "width": 120, "height": 100, "turned": 90}
    cut.info = replace(cut.info, source=source)
    np.testing.assert_array_equal(Filmed(cut, 40)(SECOND).any(0), np.arange(40) < 35)


def test_an_unbroken_video_shows_all(synthetic_dataset: Dataset) -> None:
    """As does a folder of another layout, which does not say where its frames are from."""
    assert Filmed(synthetic_dataset, 24)(3).all()


def test_preparing_knows_it_as_well() -> None:
    """The same of a view and a crop, for each shot, without what is beside a guess."""
    place = np.array([np.eye(2, 3), np.diag([1.25, 1.25, 1])[:2]])
    shots = replace(
        Shots.single(), begins=np.zeros(2), place=place, light=np.zeros((2, 3, 2)), match=np.ones(2)
    )
    info = VideoInfo(100, 120, 25.0, 100, 4.0, 0, True, "h264")
    whole, less = Source(Path("a.mp4"), info, Crop(10, 20, 80), shots=shots).filmed(40)
    assert whole is None and less is not None and less.dtype == np.float32
    np.testing.assert_array_equal(less.any(0), np.arange(40) < 35 - BORDER)
    np.testing.assert_array_equal(less.any(1), np.arange(40) < 38 - BORDER)


def test_a_guess_is_not_scored_as_the_person(cut: Dataset) -> None:
    """It counts as background in an evaluation."""
    clip = real_clip(cut, "heldout", None, 40, "mel")
    assert clip.labels is not None and clip.start >= SECOND
    filmed = Filmed(cut, 40)(SECOND)
    assert (cut.labels(40)[clip.start][~filmed] == LABELS["torso"]).any()
    assert not clip.labels[:, ~filmed].any()
    np.testing.assert_array_equal(clip.labels[0][filmed], cut.labels(40)[clip.start][filmed])


def test_refinement_looks_at_what_was_filmed(cut: Dataset) -> None:
    """A guess beside a shot says nothing of where head and torso are."""
    work = _Refinement(cut, RefineConfig(size=32, rays=64, steps=1))
    width = work.scene.camera.width
    frame = next(number for number in work.scene.fit.tolist() if number >= SECOND)
    assert (cut.labels(width)[frame][-1] == LABELS["torso"]).any(), "the guess must hold a part of the torso"
    filmed = Filmed(cut, width)(frame).ravel()
    for pixels in work._pixels(frame):
        assert len(pixels) and filmed[pixels.numpy()].all()
    assert not filmed.all()


def test_a_view_within_the_frame_is_told_from_what_is_beside_it(cut: Dataset) -> None:
    """Beside bars or about an inset, what a dataset keeps says the same as what preparing knew."""
    place = np.array([np.eye(2, 3), [[1.25, 0, -11], [0, 1.25, -7]]])
    shots = replace(
        Shots.single(), begins=np.zeros(2), place=place, light=np.zeros((2, 3, 2)), match=np.ones(2)
    )
    info = VideoInfo(100, 120, 25.0, 100, 4.0, 0, True, "h264")
    source = Source(Path("a.mp4"), info, Crop(10, 20, 80), view=View(0, 30, 50, 100, 120), shots=shots)
    kept = _Preparation._shot_tensors(SimpleNamespace(begins=np.array([0, SECOND])), source)  # type: ignore[arg-type]
    cut.extra = {**cut.extra, **kept}
    box = {"crop": [40.0, 70.0, 80.0], "view": [30, 50, 100, 120], "width": 400, "height": 300, "turned": 0}
    cut.info = replace(cut.info, source={**cut.info.source, **box})
    less = source.filmed(40)[1]
    assert less is not None
    seen = Filmed(cut, 40)(SECOND)
    assert 0 < (~seen).mean() < 0.9
    np.testing.assert_array_equal(cv2.erode(seen.astype(np.uint8), np.ones((5, 5)), borderValue=(1,)), less)
    assert Filmed(cut, 40)(0).all()


def test_what_a_camera_that_pans_did_not_show_is_no_picture(synthetic_dataset: Dataset) -> None:
    """A camera's motion leaves a border that nothing fills."""
    data = copy.copy(synthetic_dataset)
    motion = np.tile(np.eye(2, 3), (len(data), 1, 1))
    motion[3, 0, 2] = data.camera.width / 4
    data.extra = {**data.extra, "camera_motion": motion}
    data.info = replace(
        data.info, source={**data.info.source, "crop": [0.0, 0.0, 80.0], "width": 80, "height": 80}
    )
    filmed = Filmed(data, 40)
    assert filmed(2).all()
    np.testing.assert_array_equal(filmed(3), np.tile(np.arange(40) < 30, (40, 1)))
