"""What of a frame is the film: bars, insets and videos on their side, on made pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from nldf_engine.media.video import VideoInfo, probe
from nldf_engine.prepare.faces import choose_crop, main_faces, survey
from nldf_engine.prepare.view import Borders, View, better_turn

INFO = VideoInfo(640, 360, 25.0, 10, 0.4, 0, True, "h264")


def sample(k: int, side: int = 240) -> np.ndarray:
    """A textured picture that changes all over from sample to sample."""
    rng = np.random.default_rng(k)
    wall = np.random.default_rng(5).uniform(60, 200, (14, 14, 3)).astype(np.float32)
    noise = cv2.resize(rng.uniform(-30, 30, (30, 30)).astype(np.float32), (side, side))
    big = cv2.resize(wall, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(big + noise[..., None], 0, 255).astype(np.uint8)


def slide(k: int) -> np.ndarray:
    """A slide of 640 x 360 in colours that change with each sample."""
    rng = np.random.default_rng(100 + k)
    return cv2.resize(
        rng.integers(0, 255, (6, 8, 3)).astype(np.uint8), (640, 360), interpolation=cv2.INTER_NEAREST
    )


@pytest.mark.parametrize("level", [0, 16, 128])
def test_bars_are_cut_off(level: int) -> None:
    """Bars of one level on all sides go, to the pixel; what is inside stays."""
    borders = Borders()
    for k in range(8):
        frame = np.full((360, 640, 3), level, np.uint8)
        frame[50:290, 200:440] = sample(k)
        borders.add(frame)
    assert borders.bars() == (200, 50, 440, 290)
    assert borders.inset((270, 110, 80, 90), borders.bars()) is None


@pytest.mark.parametrize("tall", [True, False])
def test_a_blurred_copy_beside_the_film_is_cut_off(tall: bool) -> None:
    """A tall film before a blurred copy of itself, or a wide one; no room with two posts, nor one aside."""

    def seen(wide: np.ndarray) -> np.ndarray:
        return wide if tall else np.ascontiguousarray(wide.swapaxes(0, 1))

    filled, uneven, posts = Borders(), Borders(), Borders()
    for k in range(8):
        film = cv2.resize(sample(k), (200, 360))
        blurred = cv2.GaussianBlur(cv2.resize(film, (640, 360)), (0, 0), 25)
        for borders, left in ((filled, 220), (uneven, 260)):
            frame = blurred.copy()
            frame[:, left : left + 200] = film
            borders.add(seen(frame))
        room = cv2.resize(slide(0), (64, 36), interpolation=cv2.INTER_NEAREST)
        room = cv2.resize(room, (640, 360), interpolation=cv2.INTER_NEAREST)
        room[:, 216:220] = room[:, 420:424] = 255
        posts.add(seen(room))
    assert filled.filled() == ((220, 0, 420, 360) if tall else (0, 220, 360, 420))
    assert uneven.filled() is None and posts.filled() is None


def test_a_plain_backdrop_is_no_bar() -> None:
    """A studio's wall that fades evenly into the film has no edge, and nothing is cut off."""
    borders = Borders()
    for k in range(8):
        frame = np.full((360, 640, 3), 90, np.uint8)
        weight = np.clip((np.arange(240) - 10) / 100, 0, 1)[None, :, None]
        frame[:, 200:440][:240] = (90 + weight * (sample(k) * 0.2 - 10)).astype(np.uint8)
        borders.add(frame)
    left, _, _, _ = borders.bars()
    assert left == 0


@pytest.mark.parametrize(
    ("corner", "post"),
    [((380, 100), False), ((0, 0), False), ((400, 120), False), ((380, 100), True), ((0, 0), True)],
)
def test_an_inset_over_slides_is_found(corner: tuple[int, int], post: bool) -> None:
    """A picture over changing slides: its rectangle, wherever it lies, and also in a corner of the frame.

    A post in it from top to bottom, beside the speaker, is no side of it.
    """
    x, y = corner
    borders = Borders()
    for k in range(8):
        frame = slide(k)
        frame[y : y + 240, x : x + 240] = sample(k)
        if post:
            frame[y : y + 240, x + 40 : x + 44] = 255
        borders.add(frame)
    face = (x + 80, y + 70, 80, 90)
    found = borders.inset(face, borders.bars())
    assert found is not None
    assert np.abs(np.array(found) - (x, y, x + 240, y + 240)).max() <= 1


def test_lines_that_cross_the_picture_are_no_inset() -> None:
    """A door frame from the floor to the ceiling beside the speaker encloses nothing."""
    borders = Borders()
    for k in range(8):
        frame = cv2.resize(sample(k), (640, 360))
        frame[:, 150:154] = 255
        borders.add(frame)
    assert borders.inset((300, 100, 100, 110), (0, 0, 640, 360)) is None


def test_a_view_turns_and_cuts() -> None:
    """The part of a frame, and the size that a video has in it."""
    frame = np.arange(12, dtype=np.uint8).reshape(3, 4, 1).repeat(3, 2)
    view = View(1, 0, 1, 3, 2)
    assert view.of(frame)[..., 0].tolist() == np.rot90(frame[..., 0])[1:3, 0:3].tolist()
    assert (view.seen(INFO).width, view.seen(INFO).height) == (3, 2)
    assert (View(3).seen(INFO).width, View(3).seen(INFO).height) == (360, 640)
    assert View().of(frame) is frame and View().seen(INFO) == INFO and not View().problems(False)
    assert "90 degrees counter-clockwise" in str(view.problems(False)[0])
    assert view.problems(True)[1].severity == "warning"


def test_a_turn_is_taken_where_it_is_clear() -> None:
    """Only a turn under which faces are upright, and clearly more certain, is taken."""
    frames = [np.zeros((4, 6, 3), np.uint8)] * 3
    tall: list[tuple[float, float]] = [(0.7, 80.0)] * 3 + [(0.95, 3.0)] * 3 + [(0.6, 100.0)] * 6
    answers = iter(tall)
    assert better_turn(frames, lambda frame: next(answers)) == 1
    close = iter([(0.9, 5.0)] * 3 + [(0.92, 3.0)] * 9)
    assert better_turn(frames, lambda frame: next(close)) == 0
    # What is hardly a face, in more of the frames, weighs nothing against a clear one.
    drawn = iter([(0.0, 0.0), (0.0, 0.0), (0.95, 1.0)] + [(0.75, 2.0)] * 9)
    assert better_turn(frames, lambda frame: next(drawn)) == 0
    faint = iter([(0.2, 3.0)] * 3 + [(0.75, 2.0)] * 3 + [(0.1, 1.0)] * 6)
    assert better_turn(frames, lambda frame: next(faint)) == 1
    tilted = iter([(0.5, 90.0)] * 3 + [(0.9, 80.0)] * 9)
    assert better_turn(frames, lambda frame: next(tilted)) == 0


def test_the_survey_crops_the_speaker_out(film, speaker) -> None:
    """A film of a person on its side, with bars: turned upright, cut out, and the crop holds no bar."""

    def picture(time: float) -> np.ndarray:
        wide = np.zeros((320, 560, 3), np.uint8)
        wide[:, 120:440] = speaker.frame(time)
        return np.ascontiguousarray(np.rot90(wide))

    path = film(picture, seconds=2.0)
    info = VideoInfo(320, 560, 25.0, 50, 2.0, 0, True, "h264")
    found = survey(path, info)
    assert found.view.turns == 3 and not found.inset
    seen = found.view.seen(info)
    assert abs(seen.width - 320) <= 6 and abs(seen.height - 320) <= 6
    boxes, _ = main_faces(found.boxes)
    crop = choose_crop(boxes, seen, 2.3)
    assert crop.side <= min(seen.width, seen.height)


@pytest.mark.parametrize("turns", [0, 1])
def test_a_small_head_is_turned_only_where_it_lies(film, speaker, turns: int) -> None:
    """A head that is too small to be found in the whole picture is found in parts of it, any way up."""

    def picture(time: float) -> np.ndarray:
        wide = np.full((544, 960, 3), 90, np.uint8)
        wide[60:160, 400:500] = cv2.resize(speaker.frame(time), (100, 100), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(np.rot90(wide, turns))

    path = film(picture, seconds=2.0)
    found = survey(path, probe(path))
    assert found.view.turns == -turns % 4
    assert len(np.unique(found.boxes[:, 0])) == found.samples
