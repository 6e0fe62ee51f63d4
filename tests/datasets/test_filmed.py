"""Which pixels of a dataset were filmed, and that refinement looks at no others."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.datasets.footage import Filmed
from nldf_engine.prepare.config import RefineConfig
from nldf_engine.prepare.refine import _Refinement

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
