"""Frames that a face is found in and that are left out all the same, on made measurements."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from nldf_engine.prepare.spoilt import OPENING, OUTLINE, find_spoilt, look_at_mouth, on_mouth, times

TOTAL = 150


def measured(**changed: np.ndarray) -> dict[str, np.ndarray]:
    """What `track` measures of a speaker who moves, in the light, uncovered."""
    rng = np.random.default_rng(0)
    texture = rng.integers(40, 200, (48, 48, 3)).astype(np.uint8)
    return {
        "valid": np.ones(TOTAL, bool),
        "thumbs": np.repeat(texture[None], TOTAL, 0),
        "changes": rng.uniform(0.8, 3.0, TOTAL).astype(np.float32),
        "skin": rng.normal(0, [[1.0], [0.1]], (TOTAL, 2, 2)).astype(np.float32),
        "lips": np.ones(TOTAL, bool),
        "hands": np.full(TOTAL, 0, np.int64),
        **changed,
    }


def voice(quiet: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Six seconds of noise, silent in some frames."""
    sound = 0.1 * np.random.default_rng(1).standard_normal(TOTAL * 640)
    sound[quiet[0] * 640 : quiet[1] * 640] = 0
    return sound.astype(np.float32)


def test_nothing_is_wrong_with_a_usual_speaker() -> None:
    """Small variation of everything leaves all frames in, and no problem is reported."""
    found = find_spoilt(measured(), voice())
    assert not found.any.any() and not found.problems(25.0)


@pytest.mark.parametrize("to", [0, 255])
def test_fades_are_left_out(to: int) -> None:
    """A fade from black or white is left out as a whole, and a picture that is only a little dimmer stays."""
    thumbs = measured()["thumbs"].astype(np.float32)
    left = np.clip(np.arange(TOTAL) / 50, 0, 1)[:, None, None, None]
    found = find_spoilt(measured(thumbs=(to + left * (thumbs - to)).astype(np.uint8)), voice())
    assert found.faint[:46].all() and not found.faint[52:].any()
    dimmed = thumbs.copy()
    dimmed[80:100] *= 0.7
    assert not find_spoilt(measured(thumbs=dimmed.astype(np.uint8)), voice()).any.any()
    assert "fades or is dark" in str(found.problems(25.0)[0])


def test_a_picture_that_stands_still_while_somebody_speaks() -> None:
    """Two and a half seconds of one frame are left out, but for the first; not in silence, nor when short."""
    changes = measured()["changes"]
    changes[51:113] = 0.0
    changes[20:25] = 0.0
    found = find_spoilt(measured(changes=changes), voice())
    assert found.still[51:113].all() and found.still.sum() == 62
    (problem,) = found.problems(25.0)
    assert problem.severity == "warning" and "stands still for 2.5 s" in problem.what
    assert "at 2.0 to 4.5 s" in problem.what
    assert not find_spoilt(measured(changes=changes), voice((50, 114))).any.any()
    assert not find_spoilt(measured(changes=changes), None).any.any()
    valid = measured()["valid"]
    valid[51:113] = False  # a card, which is told as such
    assert not find_spoilt(measured(changes=changes, valid=valid), voice()).still.any()


def test_when_frames_are_is_said() -> None:
    """A stretch by its ends, a single frame by its moment."""
    flags = np.zeros(TOTAL, bool)
    flags[100] = True
    assert times(flags, 25.0) == "at 4.0 s"
    flags[50:75] = True
    assert times(flags, 25.0) == "at 2.0 to 3.0 s and at another place"


def test_footage_of_few_frames_a_second_is_not_still() -> None:
    """Twelve frames a second, each held for two, is no picture that stands still."""
    changes = measured()["changes"]
    changes[1::2] = 0.0
    assert not find_spoilt(measured(changes=changes), voice()).any.any()


def test_what_covers_the_mouth() -> None:
    """A strange colour on the chin for a while, or a hand on the mouth, is left out and reported.

    Whether lips are seen or not, for they may be its rim; but not where they are seen and the cheeks have
    another colour as well: then the light has changed.
    """
    skin, lips = measured()["skin"], np.ones(TOTAL, bool)
    lips[50:88:3] = lips[51:88:3] = False
    skin[50:88, 0] += (12, -9)
    skin[120:122, 0] += 20  # shorter than a person could cover it
    lit = skin.copy()
    lit[50:88, 1] += (-5, 2)
    assert not find_spoilt(measured(skin=lit), voice()).any.any()
    for changed in ({"skin": skin}, {"skin": skin, "lips": lips}, {"skin": lit, "lips": lips}):
        found = find_spoilt(measured(**changed), voice())
        assert found.covered[50:88].all() and found.covered.sum() == 38
        assert "something covers the mouth at 2.0 to 3.5 s" in str(found.problems(25.0)[0])
    hands = np.full(TOTAL, -1)
    hands[::8] = 0
    hands[[64, 72]] = 9
    found = find_spoilt(measured(hands=hands), voice())
    assert found.covered[60:76].all() and not found.covered[:56].any() and not found.covered[81:].any()


def face() -> tuple[np.ndarray, np.ndarray]:
    """A skin-coloured picture [200, 200, 3], and landmarks [478, 2]: those that are used are placed."""
    points = np.zeros((478, 2), np.float32)
    places = {33: (60, 70), 263: (140, 70), 2: (100, 120), 152: (100, 185)}
    places |= {200: (100, 170), 58: (55, 130), 288: (145, 130), 172: (65, 160)}
    for outline, radius in ((OUTLINE, (25, 10)), (OPENING, (20, 3))):
        for k, number in enumerate(outline):  # from the left corner, below, to the right one, and back above
            angle = np.pi * (1 - 2 * k / len(outline))
            points[number] = (100 + radius[0] * np.cos(angle), 140 + radius[1] * np.sin(angle))
    for number, place in {**places, 397: (135, 160)}.items():
        points[number] = place
    return np.full((200, 200, 3), (205, 150, 130), np.uint8), points


def test_the_colour_of_the_chin_against_the_cheeks() -> None:
    """An orange box before the chin changes it; light from one side, and a change of exposure, hardly do."""
    picture, points = face()
    chin, cheeks = look_at_mouth(picture, points)[0]
    assert np.abs(chin - cheeks).max() < 1
    covered = picture.copy()
    covered[130:200, 60:140] = (200, 140, 110)
    before, beside = look_at_mouth(covered, points)[0]
    assert np.linalg.norm(before - beside) > 5 and np.abs(beside - cheeks).max() < 1
    dimmed = (picture * 0.85).astype(np.uint8)
    chin, darker = look_at_mouth(dimmed, points)[0]
    assert np.linalg.norm(chin - darker) < 2 < np.linalg.norm(darker - cheeks)


def with_lips(picture: np.ndarray, points: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The picture with lips of a colour."""
    made = picture.copy()
    cv2.fillPoly(made, [points[list(OUTLINE)].round().astype(np.int32)], colour)
    cv2.fillPoly(made, [points[list(OPENING)].round().astype(np.int32)], picture[0, 0].tolist())
    return made


@pytest.mark.parametrize("colour", [(200, 120, 110), (150, 110, 95), (215, 175, 160)])
def test_lips_are_seen(colour: tuple[int, int, int]) -> None:
    """Redder, darker and lighter ones than the skin about them; in colour and in gray, blurred a little."""
    picture, points = face()
    picture = cv2.GaussianBlur(with_lips(picture, points, colour), (0, 0), 1.0)
    assert look_at_mouth(picture, points)[1]
    gray = np.repeat(picture.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    assert look_at_mouth(gray, points)[1]


def covers() -> dict[str, np.ndarray]:
    """Pictures [200, 200, 3] of what people hold before their mouths."""
    rng, (down, across) = np.random.default_rng(0), np.mgrid[:200, :200]
    skin = np.array([205.0, 150, 130])
    waves = 14 * np.sin(across / 5 + down / 7) + 6 * np.sin(across / 2.5)
    fingers = 0.6 + 0.4 * np.abs(np.sin(across / 10)) ** 0.5
    made = {
        "skin": np.broadcast_to(skin, (200, 200, 3)),
        "texture": skin + waves[..., None] + rng.normal(0, 4, (200, 200, 1)),
        "fingers": skin * fingers[..., None],
        "paper": 235 + rng.normal(0, 3, (200, 200, 1)) + np.zeros(3),
        "foam": np.broadcast_to([25, 25, 28], (200, 200, 3)),
        "cloth": np.broadcast_to([70, 120, 170], (200, 200, 3)),
    }
    return {name: picture.clip(0, 255).astype(np.uint8) for name, picture in made.items()}


@pytest.mark.parametrize("kind", sorted(covers()))
def test_no_lips_are_seen_on_what_covers_them(kind: str) -> None:
    """Whatever its colour and texture, with the skin around it in sight."""
    picture, points = face()
    picture = with_lips(picture, points, (200, 120, 110))
    picture[118:, 55:145] = covers()[kind][118:, 55:145]
    assert not look_at_mouth(picture, points)[1]


def test_landmarks_without_a_mouth_show_no_lips() -> None:
    """Lips as thin as a line, or all in one point, are no division by nothing."""
    picture, points = face()
    points[list(OUTLINE)] = points[list(OPENING)] = (100, 140)
    assert not look_at_mouth(picture, points)[1]


def test_a_mouth_that_is_covered_throughout() -> None:
    """It is told as what makes a video unfit; no frame is left out for it, since all are alike."""
    lips = np.random.default_rng(0).uniform(size=TOTAL) < 0.1
    found = find_spoilt(measured(lips=lips), voice())
    assert found.hidden and not found.any.any()
    (problem,) = found.problems(25.0)
    assert problem.severity == "severe" and "no lips are seen" in problem.what
    assert not find_spoilt(measured(lips=~lips), voice()).any.any()


def test_a_mouth_that_is_covered_for_most_of_the_time() -> None:
    """What is left out is where it is covered, by a strange colour or by none, and not the rest."""
    covered = np.zeros(TOTAL, bool)
    covered[:100] = True
    skin = measured()["skin"]
    skin[covered, 0] += 20
    found = find_spoilt(measured(lips=~covered, skin=skin), voice())
    assert np.array_equal(found.covered, covered) and not found.hidden
    assert np.array_equal(find_spoilt(measured(lips=~covered), voice()).covered, covered)
    short = np.zeros(TOTAL, bool)
    short[60:69] = True  # a turned head, a blurred frame
    assert not find_spoilt(measured(lips=~short), voice()).any.any()


def test_points_of_a_hand_on_the_mouth_are_counted() -> None:
    """Fingers before the lips count, a hand beside the face does not."""
    _, points = face()
    assert on_mouth(np.array([(100, 140), (95, 150), (10, 10)]), points) == 2
    assert on_mouth(np.zeros((0, 2)), points) == 0
