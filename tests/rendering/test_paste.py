"""Pasting: nothing changes outside of the region, and at its rim both pictures meet."""

from collections.abc import Callable

import numpy as np
import pytest

from nldf_engine.geometry.face_mesh import OVAL
from nldf_engine.geometry.face_template import rest_landmarks
from nldf_engine.media.planes import BT709, Colours, Planes
from nldf_engine.media.video import make_converter, rgb_of, video_frame
from nldf_engine.rendering.footage import square_places
from nldf_engine.rendering.paste import REGIONS, Paste, Region, outline

OUT = make_converter()


def face(middle: tuple[float, float] = (160, 120), height: float = 90.0, turn: float = 0.0) -> np.ndarray:
    """[478, 2] landmarks of a face in a picture of 320 x 240."""
    points = rest_landmarks()[:, :2].astype(np.float64)
    points = (points - points[list(OVAL)].mean(0)) * (height / np.ptp(points[list(OVAL), 1]))
    cosine, sine = np.cos(turn), np.sin(turn)
    return points @ np.array([[cosine, sine], [-sine, cosine]]) + middle


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 190, shape, np.uint8)


def planes(picture: np.ndarray, colours: Colours = BT709) -> Planes:
    """A picture [H, W, 3] as planes."""
    matrix, span = ("ITU709", "ITU601")[colours.matrix != 1], ("MPEG", "JPEG")[colours.range == 2]
    frame = make_converter().reformat(
        video_frame(picture), format="yuv420p", dst_colorspace=matrix, dst_color_range=span
    )
    return Planes(frame, colours)


def pasted(
    region: Region, frame: np.ndarray, picture: np.ndarray, landmarks: np.ndarray,
    place: tuple[int, int, int] = (40, 0, 240),
) -> np.ndarray:  # fmt: skip
    """The frame [H, W, 3] with the picture pasted into it."""
    stored = planes(frame)
    pasting(region, place)(stored, picture, landmarks)
    return rgb_of(stored, OUT)


def pasting(
    region: Region, place: tuple[int, int, int] = (40, 0, 240), colours: Colours = BT709
) -> Callable[[Planes, np.ndarray, np.ndarray], None]:
    """Pastes at one place, by landmarks in pixels of the frame."""
    paste, placed = Paste(region, colours), square_places(*place, 1)[0]

    def call(frame: Planes, picture: np.ndarray, landmarks: np.ndarray) -> None:
        paste(frame.parts, picture, placed, (landmarks - placed[:, 2]) / place[2])

    return call


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
@pytest.mark.parametrize("place", [(40, 0, 240), (41, 1, 239)])
def test_outside_of_the_region_nothing_changes(name: str, place: tuple[int, int, int]) -> None:
    """To the bit in every plane, beyond four standard deviations of the rim; within, the picture is seen."""
    import cv2

    x, y, side = place
    fine = noise((60, 60, 3), 1)
    picture = cv2.resize(fine, (240, 240), interpolation=cv2.INTER_CUBIC)
    frame, landmarks = planes(cv2.resize(noise((60, 80, 3)), (320, 240))), face()
    before = [plane.copy() for plane in frame.parts]
    pasting(REGIONS[name], place)(frame, picture, landmarks)
    polygon, height = outline(landmarks, REGIONS[name])
    hull = cv2.convexHull(polygon.astype(np.float32))
    signed = np.array(
        [[cv2.pointPolygonTest(hull, (u + 0.5, v + 0.5), True) for u in range(320)] for v in range(240)]
    )
    rim = REGIONS[name].rim * height
    outside = signed < -4 * rim - 3
    outside[:, :x] = outside[:, x + side :] = outside[:y] = outside[y + side :] = True
    assert outside.any()
    for own, plane, where in zip(frame.parts, before, (outside, *[_halved(outside)] * 2), strict=True):
        np.testing.assert_array_equal(own[where], plane[where])
    inside = signed > 3 * rim + 3
    inside[:, x + side :] = inside[:y] = inside[y + side :] = False
    assert inside.any()
    shown = np.zeros((240, 320), np.uint8)
    wanted = planes(picture).parts[0]
    shown[y : y + side, x : x + side] = cv2.resize(wanted, (side, side), interpolation=cv2.INTER_AREA)
    apart = np.abs(frame.parts[0].astype(int) - shown)[inside]
    assert np.median(apart) < 8 < np.median(np.abs(before[0].astype(int) - shown)[inside])


def _halved(where: np.ndarray) -> np.ndarray:
    """Which pixels of a colour plane lie wholly in `where` [H, W]."""
    made: np.ndarray = where.reshape(len(where) // 2, 2, -1, 2).all((1, 3))
    return made


@pytest.mark.parametrize("colours", [Colours(), Colours(5), Colours(2), Colours(1, range=2)])
def test_a_picture_lies_where_it_should(colours: Colours) -> None:
    """What a frame lacks in the middle comes out of the picture in place and colour, whatever the video's."""
    import cv2

    wanted = cv2.resize(noise((6, 6, 3), 3), (240, 240), interpolation=cv2.INTER_CUBIC)
    frame, smaller = planes(wanted, colours), cv2.resize(wanted, (120, 120), interpolation=cv2.INTER_AREA)
    for plane, step in zip(frame.parts, (1, 2, 2), strict=True):
        plane[100 // step : 140 // step, 100 // step : 140 // step] = 128
    pasting(REGIONS["face"], (0, 0, 240), colours)(frame, smaller, face((120, 120), 160))
    apart = np.abs(rgb_of(frame, OUT).astype(int) - wanted)[100:140, 100:140]
    assert np.median(apart) <= 3 and apart.max() <= 12


@pytest.mark.parametrize("angle", [0.0, 12.0, 90.0])
def test_a_square_may_lie_anywhere(angle: float) -> None:
    """Turned and moved by parts of a pixel, a picture comes out where a warp of its own has it."""
    import cv2

    wanted = cv2.resize(noise((8, 8, 3), 3), (160, 160), interpolation=cv2.INTER_CUBIC)
    cosine, sine = 130.5 * np.cos(np.radians(angle)), 130.5 * np.sin(np.radians(angle))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    place = np.column_stack([linear, np.array([150.25, 120.5]) - linear @ [0.5, 0.5]])
    placed = place / np.array([160, 160, 1])
    placed[:, 2] += placed[:, :2] @ [0.5, 0.5] - 0.5
    frame = planes(cv2.warpAffine(wanted, placed, (320, 240), borderMode=cv2.BORDER_REPLICATE))
    before = rgb_of(frame, OUT).astype(int)
    for plane, step in zip(frame.parts, (1, 2, 2), strict=True):
        plane[110 // step : 130 // step, 140 // step : 160 // step] = 128
    Paste(REGIONS["face"], BT709)(frame.parts, wanted, place, face((0.5, 0.5), 0.7))
    apart = np.abs(rgb_of(frame, OUT).astype(int) - before)
    assert np.median(apart[112:128, 142:158]) <= 3 and apart[112:128, 142:158].max() <= 14
    assert np.percentile(apart, 99) <= 10


def test_colour_and_light_meet_at_the_seam() -> None:
    """A picture that is darker and redder than the frame is not seen as such."""
    frame = np.full((240, 320, 3), 140, np.uint8)
    picture = np.full((120, 120, 3), (120, 100, 90), np.uint8)
    made = pasted(REGIONS["face"], frame, picture, face())
    assert np.abs(made.astype(int) - 140).max() <= 2


def test_details_of_the_picture_stay() -> None:
    """The filling is smooth: a mark in the middle is as strong as it was drawn."""
    frame = np.full((240, 320, 3), 140, np.uint8)
    picture = np.full((240, 240, 3), 110, np.uint8)
    picture[115:125, 115:125] = 20
    made = pasted(REGIONS["face"], frame, picture, face())
    assert abs(int(made[120, 160, 0]) - 50) <= 8 and abs(int(made[90, 160, 0]) - 140) <= 6


def test_the_seam_is_evened_over_time() -> None:
    """A frame whose light flickers moves the middle by a share of it."""
    paste, landmarks = pasting(REGIONS["face"]), face()
    picture = np.full((240, 240, 3), 100, np.uint8)
    middles = []
    for light in [140, 140, 160, 160]:
        frame = planes(np.full((240, 320, 3), light, np.uint8))
        paste(frame, picture, landmarks)
        middles.append(int(rgb_of(frame, OUT)[120, 160, 0]))
    assert abs(middles[0] - 140) <= 1 and middles[1] == middles[0]
    assert middles[0] < middles[2] < middles[3] < 150


@pytest.mark.parametrize("middle", [(-200, 120), (278, 120), (160, 400)])
def test_a_face_at_the_edge_or_beyond(middle: tuple[float, float]) -> None:
    """It is cut, or nothing happens."""
    frame = noise((240, 320, 3))
    before = rgb_of(planes(frame), OUT)
    made = pasted(REGIONS["face"], frame, noise((64, 64, 3), 1), face(middle))
    assert (made == before).all() == (middle != (278, 120))
