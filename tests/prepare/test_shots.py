"""Shots: where they begin, how they lie in one framing, and what shows something else."""

from pathlib import Path

import numpy as np
import pytest

from nldf_engine.media.video import VideoWriter, decode
from nldf_engine.prepare import shots
from nldf_engine.prepare.shots import UNCHANGED, Shots, cuts_of, find_shots, problems_of
from nldf_engine.prepare.trajectory import smooth, within
from nldf_engine.prepare.view import View

WIDTH, HEIGHT = 320, 240
# Of the second shot: what of the picture it shows (x, y, width, height), and its light.
CROP, GAIN, OFFSET = (40, 24, 240, 180), 0.8, 12.0


def scene(seed: int, number: int) -> np.ndarray:
    """A wall with something that moves before it, uint8 [HEIGHT, WIDTH, 3]."""
    import cv2

    small = np.random.default_rng(seed).integers(60, 200, (30, 40, 3), np.uint8)
    wall = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    x = round(150 + 25 * np.sin(number / 3))
    wall[90:200, x : x + 60] = (200, 150, 120)
    return wall


def enlarged(frame: np.ndarray) -> np.ndarray:
    """A frame as the second shot shows it."""
    import cv2

    x, y, width, height = CROP
    part = cv2.resize(frame[y : y + height, x : x + width], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(part * GAIN + OFFSET, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames as they are, 40 enlarged and darker, 5 and then 30 of another place, 20 as they are."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, crf=8) as writer:
        for number in range(145):
            if number < 50 or number >= 125:
                writer.write(scene(0, number))
            elif number < 90:
                writer.write(enlarged(scene(0, number)))
            else:
                writer.write(scene(1 if number < 95 else 2, number))
    return path


def person(frame: np.ndarray) -> np.ndarray:
    """What moves before the wall, by its colour."""
    return np.asarray(np.abs(frame.astype(int)[..., 0] - frame[..., 2]) > 50, np.float32)


def look(film: Path, faces: np.ndarray | None = None) -> Shots:
    """The shots of the film, whose faces are seen at so many seconds."""
    times, grays = [], []
    for shot in decode(film):
        times.append(shot.time)
        grays.append(shot.gray(64).astype(np.float32))
    changes = np.abs(np.diff(np.stack(grays), axis=0)).mean((1, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shots, "PersonMask", lambda: person)
        return find_shots(film, View(), np.array(times), np.concatenate([[255.0], changes]), faces)


@pytest.fixture(scope="module")
def found(film: Path) -> Shots:
    """The shots of the film."""
    return look(film)


def test_the_shot_with_the_face_is_the_common_one(film: Path) -> None:
    """A shorter shot, where the longer ones show no face; the longest, where none does."""
    faces = look(film, np.array([3.9, 4.4, 4.9, 5.2]))
    assert faces.reference == 3 and faces.usable.tolist() == [False, False, False, True, False]
    np.testing.assert_array_equal(faces.place[3], np.eye(2, 3))
    assert look(film, np.zeros(0)).reference == 0


def test_they_are_found_and_placed(found: Shots) -> None:
    """The place to a fifth of a pixel, the light to two levels; what shows something else is not usable."""
    assert found.begins == pytest.approx(np.array([0, 50, 90, 95, 125]) / 25, abs=1e-3)
    assert found.usable.tolist() == [True, True, False, False, True] and found.reference == 0
    np.testing.assert_array_equal(found.place[0], np.eye(2, 3))
    np.testing.assert_array_equal(found.place[4], np.eye(2, 3))
    x, y, width, _ = CROP
    corners = np.array([[x, x + width, WIDTH / 2], [y, y, HEIGHT / 2], [1, 1, 1.0]])
    wanted = (corners[:2] - [[x], [y]]) * (WIDTH / width)
    assert np.abs(found.place[1] @ corners - wanted).max() < 0.2
    levels = np.array([60.0, 128.0, 190.0])
    back = (levels * GAIN + OFFSET)[:, None] * found.light[1, :, 0] + found.light[1, :, 1]
    assert np.abs(back - levels[:, None]).max() < 2
    np.testing.assert_array_equal(found.light[4], UNCHANGED)


def test_frames_come_out_in_one_framing(found: Shots) -> None:
    """Where the shot shows the scene, it is the scene; beside that, what the common shot usually has."""
    frame = found.frame(enlarged(scene(0, 70)), 70 / 25)
    own, (x, y, width, height) = scene(0, 70).astype(int), CROP
    inner = np.s_[y + 4 : y + height - 4, x + 4 : x + width - 4]
    assert np.median(np.abs(frame.astype(int) - own)[inner]) <= 2
    border = np.ones((HEIGHT, WIDTH), bool)
    border[y - 2 : y + height + 2, x - 2 : x + width + 2] = False
    border[85:205, 120:240] = False  # where it moves
    assert np.median(np.abs(frame.astype(int) - own)[border]) <= 3
    plain = scene(0, 3)
    assert found.frame(plain, 0.1) is plain


def test_boxes_follow(found: Shots) -> None:
    """Faces of an enlarged shot are where the common framing has them; those of other places are dropped."""
    x, y, width, _ = CROP
    up = WIDTH / width
    box = np.array([[0, 100, 80, 60, 60, 0.9]] * 4, np.float32)
    box[1, 1:5] = [(100 - x) * up, (80 - y) * up, 60 * up, 60 * up]
    made = found.boxes(box, np.array([1.0, 3.0, 4.5, 5.5]))
    assert len(made) == 3
    np.testing.assert_allclose(made[:, 1:5], [[100, 80, 60, 60]] * 3, atol=0.5)


def test_where_they_begin_on_the_clock(found: Shots) -> None:
    """On the file's own clock, and on one that drops repeated frames."""
    times = np.arange(145) / 25
    assert found.frames_on(times, None, 25.0).tolist() == [0, 50, 90, 95, 125]
    kept = np.ones(145, bool)
    kept[[10, 50]] = False
    clock = np.where(kept, (np.cumsum(kept) - 1) / 25, np.nan)
    assert found.frames_on(times, clock, 25.0).tolist() == [0, 49, 88, 93, 123]


def test_what_is_said(found: Shots) -> None:
    """A row a shot; a note on those that are used, a warning on the others; nothing of an unbroken video."""
    valid = np.ones(145, bool)
    valid[90:125] = valid[:10] = False
    rows = found.metrics(np.array([0, 50, 90, 95, 125]), valid, 25.0)
    assert [row["frames"] for row in rows] == [40, 40, 0, 0, 20]
    assert [row["used"] for row in rows] == [True, True, False, False, True]
    assert rows[1]["zoom"] == pytest.approx(4 / 3, abs=0.003) and rows[1]["end"] == 3.6
    note, warning = problems_of(rows)
    assert (note.severity, warning.severity) == ("note", "warning")
    assert "5 shots; 3 are brought into one framing" in note.what and "from 3.6 s, 3.8 s" in warning.what
    assert problems_of(Shots.single().metrics(np.array([0]), valid, 25.0)) == []


def test_an_unbroken_video_is_left_alone() -> None:
    """A frame comes back as the same object."""
    single, frame = Shots.single(), scene(0, 1)
    assert single.frame(frame, 3.0) is frame and len(single) == 1 and single.usable.all()
    assert cuts_of(np.array([255.0, 1.0])) == []


def test_nothing_is_smoothed_across_a_cut() -> None:
    """A track with a step stays a step where it is a cut, and is rounded where it is none."""
    values = np.where(np.arange(40) < 20, 0.0, 5.0)[:, None]
    known, stiff = np.ones((40, 1, 1)), np.full((1, 1), 10.0)
    assert np.abs(smooth(values, known, stiff) - values).max() > 1
    np.testing.assert_allclose(smooth(values, known, stiff, [20]), values, atol=1e-9)
    assert np.flatnonzero(~within(40, [20])).tolist() == [18, 19]
