"""Points of hands."""

from __future__ import annotations

import numpy as np
import pytest

from nldf_engine.faces import HandPoints
from nldf_engine.faces.anchors import AnchorDetector, Detection
from nldf_engine.faces.crops import Square
from nldf_engine.faces.hands import PALM, distinct, hand_square
from tests.faces.conftest import moved, placed

JOINTS = np.array(
    [
        (150, 262),
        *((112, 240), (86, 206), (70, 178), (58, 154)),
        *((124, 160), (114, 116), (110, 90), (108, 66)),
        *((150, 152), (148, 104), (147, 74), (146, 48)),
        *((174, 158), (180, 114), (184, 86), (187, 62)),
        *((196, 172), (208, 140), (216, 120), (223, 102)),
    ],
    float,
)
"""Of the drawn hand, in the order of the landmarks."""
FINGERS = ((1, 24), (5, 20), (9, 21), (13, 20), (17, 17))
"""Each one's first joint and width."""
GRAY = np.full((300, 300, 3), 110, np.uint8)


def lines(picture: np.ndarray, points: np.ndarray, colour: tuple[int, ...], width: int) -> None:
    """Draws a line through points."""
    import cv2

    cv2.polylines(picture, [np.round(points).astype(np.int32)], False, colour, width, cv2.LINE_AA)


def layer(picture: np.ndarray, mask: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """The picture with a rounded body over it where the mask is."""
    import cv2

    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5) / 60
    round_ = np.sqrt(np.clip(1 - (1 - np.clip(depth, 0, 1)) ** 2, 0, 1))[..., None]
    soft = cv2.GaussianBlur((mask > 0).astype(np.float32), (0, 0), 4)[..., None]
    return picture * (1 - soft) + soft * skin * (0.6 + 0.4 * round_)


@pytest.fixture(scope="module")
def hand() -> np.ndarray:
    """An open hand, drawn: uint8 [300, 300, 3]."""
    import cv2

    big = 4
    joints, skin = JOINTS * big, np.array([224.0, 172.0, 140.0])
    picture = np.full((300 * big, 300 * big, 3), 110.0)
    mask = np.zeros((300 * big, 300 * big), np.uint8)
    lines(mask, np.stack([joints[0], [joints[0, 0], 300 * big]]), (255,), 52 * big)
    palm = cv2.convexHull(joints[[0, 1, 2, 5, 9, 13, 17]].astype(np.int32))
    cv2.fillPoly(mask, [palm], (255,))
    cv2.polylines(mask, [palm], True, (255,), 26 * big)
    picture = layer(picture, mask, skin)
    for first, wide in FINGERS:
        mask = np.zeros_like(mask)
        lines(mask, joints[first : first + 4], (255,), wide * big)
        picture = layer(picture, mask, skin * 1.04)
    small = cv2.resize(np.clip(picture, 0, 255).astype(np.uint8), (300, 300), interpolation=cv2.INTER_AREA)
    for k in (2, 3, 6, 7, 10, 11, 14, 15, 18, 19):  # creases
        along = JOINTS[k + 1] - JOINTS[k - 1]
        across = np.array([-along[1], along[0]]) / np.linalg.norm(along) * 7
        lines(small, np.stack([JOINTS[k] - across, JOINTS[k] + across]), (180, 130, 105), 1)
    return small


def test_the_palm_is_found_with_its_points(hand: np.ndarray) -> None:
    """As many anchors as outputs; the box lies on the palm, the middle finger's base above the wrist."""
    assert PALM.centres.shape == (2016, 2) and PALM.centres[1152] == pytest.approx((1 / 24, 1 / 24))
    (palm,) = AnchorDetector(PALM)(hand)
    assert palm.score > 0.6 and palm.points.shape == (7, 2)
    assert np.linalg.norm(palm.points[2] - JOINTS[9]) < 30
    assert abs(palm.points[0, 0] - JOINTS[0, 0]) < 15 and palm.points[0, 1] > palm.points[2, 1] + 50
    assert (palm.box[:2] < [150, 200]).all() and (palm.box[:2] + palm.box[2:] > [150, 200]).all()


def test_points_are_where_the_hand_is(hand: np.ndarray) -> None:
    """The joints of the drawn fingers, in their order, in pixels; the other hand likewise."""
    (found,) = HandPoints()(hand)
    assert found.dtype == np.float32
    error = np.linalg.norm(found - JOINTS, axis=1)
    assert np.median(error) < 8 and error[4::4].max() < 14
    (mirrored,) = HandPoints()(np.ascontiguousarray(hand[:, ::-1]))
    error = np.linalg.norm(mirrored - [299, 0] - JOINTS * [-1, 1], axis=1)
    assert np.median(error) < 8 and error[4::4].max() < 14


@pytest.mark.parametrize("angle", [-90, -40, 40, 90, 150])
def test_a_turned_hand_is_found(hand: np.ndarray, angle: float) -> None:
    """The points turn with the picture: the square stands as the hand does."""
    (upright,) = HandPoints()(hand)
    frame = placed(hand, angle, side=420)
    (found,) = HandPoints()(frame)
    assert np.median(np.linalg.norm(found - moved(upright, angle, side=420), axis=1)) < 5
    (palm,) = AnchorDetector(PALM)(frame)
    turned = np.degrees(hand_square(palm).angle)
    assert (turned - angle + 180) % 360 - 180 == pytest.approx(0, abs=12)


def test_of_two_hands_both_are_found_and_of_three_two(hand: np.ndarray) -> None:
    """Side by side, each once; never more than two."""
    hands = HandPoints()
    two = hands(np.concatenate([hand, hand[:, ::-1]], axis=1))
    assert two.shape == (2, 21, 2)
    assert sorted(two[:, :, 0].mean(1) > 300) == [False, True]
    row = np.concatenate([hand, hand[:, ::-1], hand], axis=1)
    assert len(AnchorDetector(PALM)(row)) == 3 and len(hands(row)) == 2


def test_frames_know_nothing_of_each_other(hand: np.ndarray) -> None:
    """The same frame gives the same points whatever came before."""
    hands = HandPoints()
    first = hands(hand)
    assert len(hands(GRAY)) == 0
    assert np.array_equal(first, hands(hand))


def test_a_frame_without_hands_has_none(photo: np.ndarray) -> None:
    """Plain, noisy, one pixel, one line, a face."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    for frame in (GRAY, np.zeros((64, 64, 3), np.uint8), noise, noise[:1, :1], noise[:1], photo):
        found = HandPoints()(frame)
        assert found.shape == (0, 21, 2) and found.dtype == np.float32


def test_the_square_of_a_palm() -> None:
    """Half the box's height towards the fingers, 2.6 times its longer side, fingers upwards."""
    points = np.zeros((7, 2), np.float32)
    points[0], points[2] = (100, 120), (100, 80)
    upright = hand_square(Detection(np.array([80.0, 80, 40, 30]), points, 0.9))
    assert (upright.x, upright.y) == pytest.approx((100, 80)) and upright.angle == pytest.approx(0)
    assert upright.side == pytest.approx(2.6 * 40)
    points[2] = (140, 120)  # the fingers point to the right
    right = hand_square(Detection(np.array([80.0, 80, 40, 30]), points, 0.9))
    assert (right.x, right.y) == pytest.approx((115, 95)) and right.angle == pytest.approx(np.pi / 2)


def test_of_squares_about_one_hand_the_last_stays() -> None:
    """More than half shared is one hand; the shares of known squares."""
    one, same, other = Square(50, 50, 40), Square(55, 50, 40), Square(70, 50, 40)
    assert one.overlap(one) == pytest.approx(1) and one.overlap(same) == pytest.approx(35 / 45)
    assert one.overlap(other) == pytest.approx(20 / 60) and one.overlap(Square(200, 50, 40)) == 0
    assert one.overlap(Square(50, 50, 20)) == pytest.approx(0.25) and Square(1, 1, 0).overlap(one) == 0
    assert distinct([one, same]) == [same] and distinct([one, other]) == [one, other]
    assert distinct([]) == []


def test_bad_frames_are_refused() -> None:
    """The error names what came."""
    with pytest.raises(TypeError, match="frame: expected a uint8"):
        HandPoints()(np.zeros((4, 4, 3), np.float32))
    for shape in ((4, 4), (4, 4, 4), (0, 4, 3)):
        with pytest.raises(ValueError, match="frame: expected"):
            HandPoints()(np.zeros(shape, np.uint8))


def test_it_agrees_with_mediapipe(hand: np.ndarray) -> None:
    """The points of MediaPipe 0.10.21, each frame on its own: turned, small, cut by the border, two, none."""
    mediapipe = pytest.importorskip("mediapipe", reason="mediapipe, the oracle, is not installed")
    if not hasattr(mediapipe, "solutions"):
        pytest.skip("this mediapipe is one without its solutions")
    frames = [hand, placed(hand, 35), placed(hand, -100, 0.7), placed(hand, 10, side=240), GRAY]
    frames.append(np.concatenate([hand, hand[:, ::-1]], axis=1))
    ours = HandPoints()
    with mediapipe.solutions.hands.Hands(
        static_image_mode=True, max_num_hands=2, model_complexity=0
    ) as theirs:
        for frame in frames:
            size = frame.shape[1::-1]
            expected = theirs.process(frame).multi_hand_landmarks or []
            points = [np.array([(p.x, p.y) for p in one.landmark]) * size for one in expected]
            found = ours(frame)
            assert len(found) == len(points)
            for one, other in zip(found, points, strict=True):
                error = np.linalg.norm(one - other, axis=1)
                assert np.median(error) < 0.15 and error.max() < 1.0
