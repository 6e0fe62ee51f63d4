"""Where faces are found."""

from __future__ import annotations

import numpy as np
import pytest

from nldf_engine.faces import FaceDetector
from nldf_engine.faces.anchors import join_boxes
from nldf_engine.faces.detector import RANGES
from tests.faces.conftest import moved, placed


def test_anchors_are_the_middles_of_cells() -> None:
    """As many as the networks have outputs, from the first cell's middle to the last one's."""
    near, far = RANGES["near"].centres, RANGES["far"].centres
    assert near.shape == (896, 2) and far.shape == (2304, 2)
    assert near[0] == pytest.approx((1 / 32, 1 / 32)) and near[2] == pytest.approx((3 / 32, 1 / 32))
    assert near[-1] == pytest.approx((15 / 16, 15 / 16)) and far[48] == pytest.approx((1 / 96, 3 / 96))


@pytest.mark.parametrize("distance", ["near", "far"])
def test_a_face_is_found_where_it_is(photo: np.ndarray, distance: str) -> None:
    """Moved into a corner of a wide frame, box and points move with it."""
    detector = FaceDetector(distance)
    (here,) = detector(photo)
    frame = np.full((360, 480, 3), 110, np.uint8)
    frame[60:, 180:] = photo
    (there,) = detector(frame)
    assert there.score > 0.7
    left, top, wide, high = here.box
    assert 40 < wide < 160 and 40 < high < 160
    np.testing.assert_allclose(there.box, here.box + np.array([180, 60, 0, 0]), atol=8)
    np.testing.assert_allclose(there.points, here.points + np.array([180, 60]), atol=6)
    eyes, nose, mouth = here.points[:2], here.points[2], here.points[3]
    assert eyes[0, 0] < nose[0] < eyes[1, 0] and eyes[:, 1].max() < nose[1] < mouth[1]
    assert (left < here.points[:, 0] + 20).all() and (here.points[:, 1] < top + high).all()


def test_two_faces_are_two(photo: np.ndarray) -> None:
    """Side by side, each is found once, and the boxes stand apart."""
    faces = FaceDetector("near")(np.concatenate([photo, photo[:, ::-1]], axis=1))
    assert len(faces) == 2 and faces[0].score >= faces[1].score
    a, b = sorted(face.box[0] for face in faces)
    assert a < 300 < b


def test_blank_and_tiny_frames_have_none() -> None:
    """Plain, noisy, one pixel, one line."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    for frame in (np.zeros((64, 64, 3), np.uint8), noise, noise[:1, :1], noise[:1]):
        for distance in RANGES:
            assert FaceDetector(distance)(frame) == []


def test_a_small_face_is_found_by_the_far_detector(photo: np.ndarray) -> None:
    """A head of 30 pixels in a frame of 300."""
    frame = placed(photo, scale=0.35)
    (face,) = FaceDetector("far")(frame)
    (whole,) = FaceDetector("far")(photo)
    np.testing.assert_allclose(face.points, moved(whole.points, 0, 0.35), atol=4)


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_frames_of_another_shape_are_refused(frame: np.ndarray) -> None:
    """The error names the shape."""
    with pytest.raises(ValueError, match="frame: expected"):
        FaceDetector()(frame)
    with pytest.raises(TypeError, match="frame: expected a uint8"):
        FaceDetector()(np.zeros((4, 4, 3), np.float32))


def test_an_unknown_distance_is_refused() -> None:
    """With the names that there are."""
    with pytest.raises(ValueError, match="'far', 'near'"):
        FaceDetector("medium")


def test_boxes_that_overlap_join_by_their_scores() -> None:
    """The weighted mean of two, and one that stands apart; nothing comes of nothing."""
    corners = np.array([[0, 0, 1, 1], [0, 0, 1, 1.2], [3, 3, 4, 4.0]])
    points = corners[:, None, :2] + 0.5
    scores = np.array([0.9, 0.6, 0.3])
    one, other = join_boxes(corners, points, scores)
    assert one[0] == pytest.approx([0, 0, 1, (0.9 + 0.6 * 1.2) / 1.5]) and one[2] == 0.9
    assert other[0] == pytest.approx([3, 3, 4, 4]) and other[1] == pytest.approx(np.array([[3.5, 3.5]]))
    assert join_boxes(corners[:0], points[:0], scores[:0]) == []
    # A box without an area is a face of its own, once.
    assert len(join_boxes(np.zeros((2, 4)), np.zeros((2, 6, 2)), np.array([0.9, 0.8]))) == 2
