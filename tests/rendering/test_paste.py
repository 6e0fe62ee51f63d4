"""Pasting: nothing changes outside of the region, and at its rim both pictures meet."""

import numpy as np
import pytest

from nldf_engine.geometry.face_mesh import OVAL
from nldf_engine.geometry.face_template import rest_landmarks
from nldf_engine.rendering.paste import REGIONS, Paste, outline


def face(middle: tuple[float, float] = (160, 120), height: float = 90.0, turn: float = 0.0) -> np.ndarray:
    """[478, 2] landmarks of a face in a picture of 320 x 240."""
    points = rest_landmarks()[:, :2].astype(np.float64)
    points = (points - points[list(OVAL)].mean(0)) * (height / np.ptp(points[list(OVAL), 1]))
    cosine, sine = np.cos(turn), np.sin(turn)
    return points @ np.array([[cosine, sine], [-sine, cosine]]) + middle


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 190, shape, np.uint8)


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_regions_reach_as_far_as_they_should(turn: float) -> None:
    """The mouth's lies below the nose, the head's about the face's; all turn with the face."""
    landmarks = face(turn=turn)
    shapes = {name: outline(landmarks, region)[0] for name, region in REGIONS.items()}
    down = np.array([-np.sin(turn), np.cos(turn)])
    reach = {name: np.ptp(points @ down) for name, points in shapes.items()}
    assert reach["mouth"] < 0.7 * reach["face"] and reach["face"] < 0.8 * reach["head"]
    assert (shapes["mouth"] @ down).min() > (landmarks[2] @ down) - 1e-6
    assert (shapes["face"] @ down).max() > (landmarks[152] @ down)
    assert outline(landmarks, REGIONS["face"])[1] == pytest.approx(90, rel=0.02)


@pytest.mark.parametrize("name", list(REGIONS))
def test_outside_of_the_region_nothing_changes(name: str) -> None:
    """To the bit, beyond four standard deviations of the rim; in the middle the picture is seen."""
    import cv2

    frame, picture = noise((240, 320, 3)), noise((240, 240, 3), 1)
    before, landmarks = frame.copy(), face()
    Paste((40, 0, 240), REGIONS[name])(frame, picture, landmarks)
    polygon, height = outline(landmarks, REGIONS[name])
    hull = cv2.convexHull(polygon.astype(np.float32))
    signed = np.array(
        [[cv2.pointPolygonTest(hull, (float(x), float(y)), True) for x in range(320)] for y in range(240)]
    )
    rim = REGIONS[name].rim * height
    outside = signed < -4 * rim - 3
    outside[:, :40] = outside[:, 280:] = True
    assert outside.any()
    np.testing.assert_array_equal(frame[outside], before[outside])
    inside = signed > 3 * rim + 3
    assert inside.any()
    shown = picture[:, :, :][:, : 320 - 40]
    apart = np.abs(frame[:, 40:280].astype(int) - shown.astype(int))[inside[:, 40:280]]
    assert np.median(apart) < 12 < np.median(np.abs(before[:, 40:280].astype(int) - shown)[inside[:, 40:280]])


def test_colour_and_light_meet_at_the_seam() -> None:
    """A picture that is darker and redder than the frame is not seen as such."""
    frame = np.full((240, 320, 3), 140, np.uint8)
    picture = np.full((120, 120, 3), (120, 100, 90), np.uint8)
    Paste((40, 0, 240), REGIONS["face"])(frame, picture, face())
    assert np.abs(frame.astype(int) - 140).max() <= 1


def test_details_of_the_picture_stay() -> None:
    """The filling is smooth: a mark in the middle is as strong as it was drawn."""
    frame = np.full((240, 320, 3), 140, np.uint8)
    picture = np.full((240, 240, 3), 110, np.uint8)
    picture[115:125, 115:125] = 10
    Paste((40, 0, 240), REGIONS["face"])(frame, picture, face())
    assert abs(int(frame[120, 160, 0]) - 40) <= 8 and abs(int(frame[90, 160, 0]) - 140) <= 6


def test_the_seam_is_evened_over_time() -> None:
    """A frame whose light flickers moves the middle by a share of it."""
    paste, landmarks = Paste((40, 0, 240), REGIONS["face"]), face()
    picture = np.full((240, 240, 3), 100, np.uint8)
    middles = []
    for light in [140, 140, 160, 160]:
        frame = np.full((240, 320, 3), light, np.uint8)
        paste(frame, picture, landmarks)
        middles.append(int(frame[120, 160, 0]))
    assert middles[0] == middles[1] == 140 and 141 <= middles[2] < middles[3] < 150


@pytest.mark.parametrize("middle", [(-200, 120), (278, 120), (160, 400)])
def test_a_face_at_the_edge_or_beyond(middle: tuple[float, float]) -> None:
    """It is cut, or nothing happens."""
    frame = noise((240, 320, 3))
    before = frame.copy()
    Paste((40, 0, 240), REGIONS["face"])(frame, noise((64, 64, 3), 1), face(middle))
    assert (frame == before).all() == (middle != (278, 120))
