"""Playback: the frames of a plan, blended where it says so, from a file that is read forward."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nldf_engine.base.errors import FileProblem
from nldf_engine.media import playback
from nldf_engine.media.planes import Planes
from nldf_engine.media.playback import play
from nldf_engine.media.video import VideoWriter, frames_at, make_converter, rgb_of, shots_at


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames, each of another brightness."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with VideoWriter(path, 32, 24) as writer:
        for number in range(40):
            writer.write(np.full((24, 32, 3), 6 * number, np.uint8))
    return path


def stored(path: Path) -> list[Planes]:
    """Every frame of a video on the clock of 25 a second."""
    return [shot.planes() for shot in shots_at(path, 25.0)]


def straight(run: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """The steps of a run that is not blended."""
    return ((int(number), int(number), 0.0) for number in run)


def same(one: Planes, other: Planes) -> bool:
    """Whether two frames are the same to the bit."""
    return all(np.array_equal(a, b) for a, b in zip(one.parts, other.parts, strict=True))


def no_thread_is_left() -> bool:
    """Whether the threads that look ahead end."""
    ahead = [each for each in threading.enumerate() if each.name.startswith(("nldf-seek", "nldf-backward"))]
    for thread in ahead:
        thread.join(20)
    return not any(thread.is_alive() for thread in ahead)


def test_planes_are_the_frames(film: Path) -> None:
    """What is stored comes out as the frames that are read in RGB."""
    converter = make_converter()
    for planes, frame in zip(stored(film), frames_at(film), strict=True):
        np.testing.assert_array_equal(rgb_of(planes, converter), frame)


def test_reading_may_begin_later(film: Path) -> None:
    """On the clock and off it, from any frame on."""
    every = list(frames_at(film, None))
    for fps in (25.0, None):
        later = list(frames_at(film, fps, first=33))
        assert len(later) == 7
        np.testing.assert_array_equal(later, every[33:])
    assert list(frames_at(film, 25.0, first=60)) == []


def test_a_plan_is_followed(film: Path) -> None:
    """Forward, back with a blend, and forward again; every frame has memory of its own."""
    first = np.array([*range(5, 20), 20, 21, *range(9, 15)])
    second = np.array([*range(5, 20), 7, 8, *range(9, 15)])
    share = np.array([0.0] * 15 + [0.25, 0.75] + [0.0] * 6)
    every = stored(film)
    steps = list(zip(first.tolist(), second.tolist(), share.tolist(), strict=True))
    made = list(play(film, steps, 25.0))
    for frame, one, other, part in zip(made, first, second, share, strict=True):
        wanted = Planes.of(every[one].parts, every[one].colours)
        wanted.blend(every[other], part)
        assert same(frame, wanted)
    assert len({frame.parts[0].ctypes.data for frame in made}) == len(made)


@pytest.mark.parametrize("held", [1, 1 << 28])
def test_it_runs_backward(film: Path, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    """To and fro, however few frames are held at a time; every frame has memory of its own."""
    monkeypatch.setattr(playback, "BACKWARD_BYTES", held)
    run = np.array([*range(5, 35), *range(35, 9, -1), *range(9, 14)])
    every = stored(film)
    made = list(play(film, straight(run), 25.0))
    assert all(same(frame, every[number]) for frame, number in zip(made, run, strict=True))
    assert len({frame.parts[0].ctypes.data for frame in made}) == len(made)


# Containers with and without an index at a clock that is not the frames', and each of the clocks.
@pytest.mark.parametrize(
    ("ending", "rate"),
    [
        (".mp4", "30000/1001"),
        (".mp4", "25"),
        (".mkv", "10"),
        (".ts", "30000/1001"),
        (".ts", "10"),
        (".avi", "25"),
    ],
)
def test_seeking_finds_the_very_frames(tmp_path: Path, ending: str, rate: str) -> None:
    """Of containers with and without an index, on any clock, also where sound or picture starts late."""
    path = tmp_path / f"film{ending}"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-itsoffset", "0.7", "-f", "lavfi", "-i", f"testsrc2=s=64x48:r={rate}:d=8",
         "-f", "lavfi", "-i", "sine=d=8", "-c:v", "libx264" if ending != ".avi" else "mpeg4", "-g", "30",
         "-pix_fmt", "yuv420p", str(path)],
        check=True,
    )  # fmt: skip
    every = stored(path)
    for first in (0, 24, 26, 90, 91, 130, len(every) - 1):
        later = [shot.planes() for shot in shots_at(path, 25.0, first=first)]
        assert len(later) == len(every) - first
        assert all(same(a, b) for a, b in zip(later, every[first:], strict=True))


def test_a_film_that_is_too_short_says_so(film: Path) -> None:
    """The frame that is missing is named."""
    run = np.arange(35, 45)
    with pytest.raises(FileProblem, match="has 40 frames, and frame 40 is wanted"):
        list(play(film, straight(run), 25.0))


def test_a_picture_that_stands_for_several_frames_is_copied(tmp_path: Path) -> None:
    """What is drawn into one frame is not seen in the next."""
    with VideoWriter(tmp_path / "slow.mp4", 32, 24, fps=10) as writer:
        for number in range(6):
            writer.write(np.full((24, 32, 3), 40 * number, np.uint8))
    run = np.arange(12)
    every = stored(tmp_path / "slow.mp4")
    made = play(tmp_path / "slow.mp4", straight(run), 25.0)
    for frame, want in zip(made, every, strict=False):
        assert same(frame, want)
        frame.parts[0][:] = 255


@pytest.mark.parametrize("soon", [0, 3, 100])
def test_where_it_jumps_to_is_looked_for_before(
    film: Path, monkeypatch: pytest.MonkeyPatch, soon: int
) -> None:
    """Once for each jump, also for one that comes at once; the frames are the same, and no thread stays."""
    round_ = [(n, n, 0.0) for n in range(10, 20)] + [(20, 8, 0.3), (21, 9, 0.8)]
    steps = [(n, n, 0.0) for n in range(10)] + 3 * round_
    wanted = [[part.copy() for part in frame.parts] for frame in play(film, steps, 25.0)]
    monkeypatch.setattr(playback, "SOON", soon)
    opened = []
    reader = playback._Reader

    class Seen(reader):
        def __init__(self, path: Path, fps: float, first: int, ahead: bool = False) -> None:
            opened.append((first, ahead))
            super().__init__(path, fps, first, ahead)

    monkeypatch.setattr(playback, "_Reader", Seen)
    made = list(play(film, steps, 25.0))
    for frame, parts in zip(made, wanted, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(frame.parts, parts, strict=True))
    assert opened == [(0, False), *[(8, True)] * 3]
    left = play(film, steps, 25.0)
    for _ in range(18):
        next(left)
    left.close()
    assert no_thread_is_left()


@pytest.mark.parametrize("held", [1, 1 << 28])
@pytest.mark.parametrize("taken", [1, 25, 31, 45, 60])
def test_it_can_be_left_anywhere(film: Path, monkeypatch: pytest.MonkeyPatch, held: int, taken: int) -> None:
    """Before, within and behind a run that falls; what is decoded for later is dropped."""
    monkeypatch.setattr(playback, "BACKWARD_BYTES", held)
    run = np.array([*range(10, 40), *range(38, 3, -1), *range(5, 20)])
    left, every = play(film, straight(run), 25.0), stored(film)
    for number, frame in zip(run[:taken], left, strict=False):
        assert same(frame, every[number])
    left.close()
    assert no_thread_is_left()


def test_a_run_that_falls_may_begin_a_plan_or_follow_a_blend(film: Path) -> None:
    """Steps are followed as they are said."""
    every = stored(film)
    down = np.arange(20, 3, -1)
    assert all(same(a, every[n]) for a, n in zip(play(film, straight(down), 25.0), down, strict=True))
    steps = [*straight(np.arange(10, 20)), (20, 18, 0.3), (21, 19, 0.6), *straight(np.arange(20, 10, -1))]
    made = list(play(film, steps, 25.0))
    assert all(same(a, every[n]) for a, n in zip(made[12:], range(20, 10, -1), strict=True))


def test_a_run_that_falls_beyond_the_end_says_so(film: Path) -> None:
    """The thread's error is raised where the frame is wanted."""
    with pytest.raises(FileProblem, match="is wanted"):
        list(play(film, straight(np.array([*range(30, 40), *range(60, 30, -1)])), 25.0))
    assert no_thread_is_left()
