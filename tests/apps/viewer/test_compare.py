"""Real beside rendered, the error's colours, frames in any order, a dataset's frame with what was found."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.apps.viewer.compare import at_size, beside, error_map, letterboxed, opaque
from nldf_engine.apps.viewer.dataset_picture import (
    INVALID,
    LABEL_COLOURS,
    DatasetPictures,
    DatasetState,
    feature_picture,
    summary,
    validity_strip,
    with_landmarks,
)
from nldf_engine.apps.viewer.frames import FramesByNumber, frames_of, label_maps_of
from nldf_engine.apps.viewer.picture import AvatarPictures
from nldf_engine.apps.viewer.state import ERROR, VIDEO, ViewState
from nldf_engine.apps.viewer.take import Take, dataset_take
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.engine import Engine
from nldf_engine.evaluation.metrics.psnr import psnr


@pytest.fixture(scope="module")
def trained(footage: Dataset) -> Engine:
    """An untrained avatar as if it were of the dataset: seen by its camera, and with its hash."""
    origin = {"dataset": footage.hash()}
    avatar = replace(tiny_avatar(size=64), camera=footage.camera, provenance=origin)
    return Engine(avatar, torch.device("cpu"))


def test_a_video_is_rendered_again_beside_its_frames(trained: Engine, footage: Dataset) -> None:
    """As `Engine.render` does with its poses, eyes and torso; the PSNR is that of the evaluation."""
    take = dataset_take(trained, footage)
    pictures = AvatarPictures(trained, take)
    assert take.given.torso is not None and take.given.upper is None and VIDEO in pictures.motions
    drawn = pictures.draw(ViewState(frame=30, motion=VIDEO, shown=ERROR))
    assert drawn.pixels.shape == (64, 3 * 64, 3)
    real, rendered, error = np.split(drawn.pixels, 3, 1)
    np.testing.assert_array_equal(real, footage.frames()[30])
    clip = trained.render(take.features, take.poses, eyes=take.given.eyes, torso=take.given.torso)
    assert np.abs(clip.frames[30].astype(int) - rendered).max() <= 1
    assert drawn.psnr == pytest.approx(psnr(rendered, real)) and error.max() > 60
    moved = pictures.draw(ViewState({"yaw": 8.0}, 30, VIDEO, ERROR))
    assert moved.psnr is not None and moved.psnr != drawn.psnr
    shut = pictures.draw(ViewState({"eyes": 0.0}, 30, VIDEO))
    assert np.abs(shut.pixels.astype(int) - rendered).max() > 3  # a slider counts more than the video's eyes


def test_another_camera_is_refused(footage: Dataset, bundled: Engine) -> None:
    with pytest.raises(FileProblem, match="64 pixels wide, too few to compare 256 with"):
        dataset_take(bundled, footage)


def test_errors_have_colours() -> None:
    """Equal pictures are dark, others the brighter the more they differ."""
    real = np.full((4, 6, 3), 100, np.uint8)
    rendered = real.copy()
    rendered[:, 3:] = 180
    shown = error_map(rendered, real).astype(int).sum(2)
    assert shown[0, 0] == 20 and shown[0, 5] == 765
    row, decibels = beside(rendered, at_size(real, 12, 8), error=False)
    assert row.shape == (4, 12, 3) and decibels == pytest.approx(psnr(rendered, real))
    np.testing.assert_array_equal(row[:, :6], real)


def test_transparent_pictures_are_shown_on_a_board_and_paper_fills_the_page() -> None:
    clear = np.zeros((20, 20, 4), np.uint8)
    clear[:10] = (255, 0, 0, 255)
    shown = opaque(clear)
    assert (shown[:10] == (255, 0, 0)).all() and set(np.unique(shown[10:])) == {150, 200}
    for aspect, shape in ((2.0, (20, 40, 3)), (0.5, (40, 20, 3)), (1.0, (20, 20, 3))):
        page = letterboxed(shown, aspect, (1, 2, 3))
        assert page.shape == shape
        top, left = (shape[0] - 20) // 2, (shape[1] - 20) // 2
        np.testing.assert_array_equal(page[top : top + 20, left : left + 20], shown)
        assert aspect == 1.0 or (page[0, 0] == (1, 2, 3)).all()


def test_frames_come_in_any_order() -> None:
    """Each is the right one; a step forward goes on, and only a jump back begins again."""
    begun: list[int] = []

    def begin(first: int):
        begun.append(first)
        return (np.full((2, 2, 3), k % 256, np.uint8) for k in range(first, 300))

    footage = FramesByNumber(300, begin)
    for number in (0, 1, 2, 150, 149, 140, 20, 21, 299, 0):
        assert int(footage[number][0, 0, 0]) == number % 256
    assert begun == [0, 20, 0]
    for bad in (-1, 300):
        with pytest.raises(IndexError):
            footage[bad]


def test_a_dataset_frame_shows_what_was_found(footage: Dataset) -> None:
    """Labels tint, landmarks are dots where they are, frames that are not valid have a red rim."""
    data = footage
    pictures = DatasetPictures(data, frames_of(data), label_maps_of(data))
    plain = pictures.draw(DatasetState(40, labels=0.0, landmarks=False))
    np.testing.assert_array_equal(plain, data.frames()[40])
    tinted = pictures.draw(DatasetState(40, labels=0.5, landmarks=False)).astype(int)
    labels = data.labels()[40]
    for name, colour in LABEL_COLOURS.items():
        where = labels == LABELS[name]
        expected = 0.5 * plain[where] + 0.5 * np.array(colour)
        assert np.abs(tinted[where] - expected).max() <= 1
    np.testing.assert_array_equal(tinted[labels == 0], plain[labels == 0])
    large = pictures.draw(DatasetState(40, "label map"), 256)
    assert large.shape == (256, 256, 3)
    dots = with_landmarks(np.zeros((64, 64, 3), np.uint8), data.landmarks[40])
    ys, xs = np.nonzero(dots.max(2))
    points = data.landmarks[40]
    nearest = np.hypot(xs[:, None] + 0.5 - points[:, 0], ys[:, None] + 0.5 - points[:, 1]).min(1)
    assert len(xs) > 50 and nearest.max() < 3
    lost = np.full_like(points, np.nan)
    assert with_landmarks(np.zeros((64, 64, 3), np.uint8), lost).max() == 0
    with pytest.raises(IndexError, match="frame 50 of a dataset of 50 frames"):
        pictures.draw(DatasetState(50))
    with pytest.raises(ValueError, match="shown: expected one of frame"):
        DatasetState(shown="mesh")


def test_invalid_frames_and_parts_are_marked(footage: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    valid = footage.valid.copy()
    valid[10:20] = False
    monkeypatch.setattr(footage, "valid", valid)
    pictures = DatasetPictures(footage, frames_of(footage), label_maps_of(footage))
    assert tuple(pictures.draw(DatasetState(12))[0, 0]) == INVALID
    strip = validity_strip(footage, width=100)
    assert (strip[0, 20:40] == INVALID).all() and len(np.unique(strip[0], axis=0)) == 3
    assert "40 valid" in summary(footage)


def test_features_are_drawn_about_the_frame(footage: Dataset) -> None:
    windows = footage.audio_features("mel")
    first, later = feature_picture(windows, 0), feature_picture(windows, 30)
    assert first.shape[0] == later.shape[0] and (first[:, 1] == 255).all()
    assert later.shape[1] == 4 * len(windows)
    assert feature_picture(np.zeros((5, 16, 3), np.float32), 2).shape[1] == 20


def test_a_take_without_a_video_has_nothing_to_compare(tiny: Engine, silence: Take) -> None:
    pictures = AvatarPictures(tiny, silence)
    assert pictures.shown == ("rendered",) and VIDEO not in pictures.motions
    with pytest.raises(ValueError, match="no video to move as; open the viewer with --data"):
        pictures.draw(ViewState(motion=VIDEO))
    assert pictures.draw(ViewState(frame=10**6)).frame == len(silence) - 1
    assert torch.is_tensor(pictures.codes) is False
