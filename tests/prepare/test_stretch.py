"""Which stretch of a long video is prepared, and that all the rest follows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.datasets import footage_of
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.stretch import Coverage
from nldf_engine.media.video import frames_at, probe
from nldf_engine.prepare import PrepareConfig, prepare
from nldf_engine.prepare.faces import Crop, Survey
from nldf_engine.prepare.shots import Shots
from nldf_engine.prepare.source import Source
from nldf_engine.prepare.stretch import Choice, choose_stretch, even_frames
from tests.prepare.conftest import speech

BEGIN, END, ALL = 3.2, 6.2, 8.0  # seconds in which the speaker moves, and of the film


@pytest.fixture
def long(film, speaker) -> Path:
    """A film whose speaker trembles all the time, and crosses the picture from BEGIN to END."""

    def picture(time: float) -> np.ndarray:
        crossed = np.clip((time - BEGIN) / (END - BEGIN), 0, 1)
        return speaker.frame(0.3 + 0.05 * np.sin(5 * time), shift=(40 * (crossed - 0.5), 0))

    return film(picture, seconds=ALL)


def test_what_shows_most_is_prepared(long: Path, tmp_path: Path) -> None:
    """Frames, sound, crop and report are those of the chosen seconds; pasting back finds them in the file."""
    config = PrepareConfig(size=64, refine=False, audio_frontend="", sync="off", minutes=0.05)
    report = prepare(long, tmp_path / "out", config)
    dataset = Dataset.open(tmp_path / "out")
    stretch = report.metrics["stretch"]
    assert len(dataset) == 75 and stretch["end"] - stretch["begin"] == pytest.approx(3)
    moving = min(stretch["end"], END) - max(stretch["begin"], BEGIN)
    assert moving >= (END - BEGIN) / 2 and stretch["of"] == pytest.approx(ALL)
    assert stretch["covers"]["pose"] > max(stretch["first_covers"]["pose"], stretch["usual_covers"]["pose"])
    assert f"{stretch['begin']:.1f} to {stretch['end']:.1f} s are prepared" in report.text()
    first = dataset.info.source["first_frame"]
    assert first == round(25 * stretch["begin"])
    # The file's sound is AAC: alike, and nowhere else.
    heard, said = dataset.audio(), speech(ALL)
    assert len(heard) == 48000
    assert np.corrcoef(heard, said[640 * first : 640 * first + 48000])[0, 1] > 0.9
    footage = footage_of(dataset, long)  # compares pictures
    assert footage.first == first and len(footage) == 75
    kept = json.loads((tmp_path / "out" / "report.json").read_text())
    assert kept["figures"]["stretch"] == stretch


def test_pasting_shows_the_prepared_frames(long: Path) -> None:
    """The frames of footage that begins later are those of the file from there on."""
    from nldf_engine.engine.into import Staging
    from nldf_engine.geometry.cameras import Camera
    from nldf_engine.media.video import make_converter, rgb_of
    from nldf_engine.rendering.footage import Footage, square_places

    camera = Camera(64, 64, 90.0, 90.0, 32.0, 32.0)
    poses = np.tile(np.eye(4, dtype=np.float32), (40, 1, 1))
    poses[:, 2, 3] = -0.9
    footage = Footage(
        long, square_places(0, 0, 320, 40), camera, poses, np.zeros((40, 478, 2), np.float32),
        np.ones(40, np.float32), np.tile(np.eye(2, 3, dtype=np.float32), (40, 1, 1)), np.ones(40, bool),
        first=90,
    )  # fmt: skip
    staging = Staging(footage, 5, camera, "face")
    shown = [rgb_of(frame, make_converter()) for frame in staging.played()]
    expected = list(frames_at(long))
    for number, frame in zip(staging.loop.first.tolist(), shown, strict=True):
        apart = [np.abs(frame.astype(int) - other).mean() for other in expected]
        assert int(np.argmin(apart)) == 90 + number


def test_shorter_videos_are_taken_whole(film, tmp_path: Path) -> None:
    """Nothing is chosen, and nothing is said of it, where the video is no longer than that."""
    config = PrepareConfig(size=64, refine=False, audio_frontend="", minutes=0.05)
    report = prepare(film(seconds=3.0), tmp_path / "out", config)
    assert report.metrics["frames"] == 75 and "stretch" not in report.metrics
    assert "first_frame" not in Dataset.open(tmp_path / "out").info.source


@pytest.mark.parametrize("minutes", [0.0, -1.0, 0.01, float("nan"), float("inf")])
def test_minutes_that_are_none(minutes: float) -> None:
    """Less than a dataset can be made of is refused."""
    with pytest.raises(ValueError, match=r"minutes must be 0\.05 or more"):
        PrepareConfig(minutes=minutes)


def test_frames_that_cannot_be_learned_from_count() -> None:
    """Of two stretches that show the same, the one with more clean frames is taken, at any sampling."""
    time = torch.arange(0, 200)
    look = torch.stack([torch.sin(time * 0.7), torch.cos(time * 0.7)], 1)
    for every in (1, 5):
        known = time * every
        clean = torch.ones(200, dtype=torch.bool)
        clean[:100] = False
        found, costs = Coverage([look, look], known, clean).stretches(0, 200 * every, 100 * every)
        best = found[costs.index(min(costs))]
        assert best.first == 100 * every, every
        assert costs[0] - min(costs) == pytest.approx(1.0, abs=0.05)
    with pytest.raises(ValueError, match="two frames or more"):
        Coverage([look[:1]] * 2, time[:1])


def test_where_nothing_is_seen_the_beginning_is_taken(film) -> None:
    """A film without a face in the frames looked at is left to the steps that say what is wrong."""
    path = film(lambda _: np.full((320, 320, 3), 90, np.uint8), seconds=2.4)
    info = probe(path)
    survey = Survey(np.zeros((0, 6), np.float32), 5, np.arange(60) / 25, np.ones(60, np.float32))
    source = Source(path, info, Crop(0, 0, 320))
    choice = choose_stretch(source, survey, np.zeros(0, int), None, 50)
    assert (choice.chosen.first, choice.chosen.last, choice.clean, choice.frames) == (0, 50, 0.0, 60)
    assert isinstance(choice, Choice) and choice.problem().severity == "note"


def test_even_frames_name_moments_of_the_file() -> None:
    """Without another clock their own; with repeats dropped, those of the frames that are kept."""
    survey = Survey(np.zeros((0, 6), np.float32), 0, np.arange(60) / 30, np.ones(60, np.float32))
    assert np.allclose(even_frames(survey, None), np.arange(50) / 25)
    clock = np.full(60, np.nan)
    kept = np.flatnonzero(np.arange(60) % 6 != 5)
    clock[kept] = np.arange(50) / 25
    assert np.allclose(even_frames(survey, clock), kept / 30)


def test_a_source_is_read_in_part(long: Path) -> None:
    """Frames [first, last), and every n-th of them, are those of the whole."""
    info = probe(long)
    whole = list(Source(long, info, Crop(0, 0, 320)).frames(25))
    part = list(Source(long, info, Crop(0, 0, 320), first=60, last=83).frames(25))
    assert len(whole) == 200 and len(part) == 23 and np.array_equal(part, whole[60:83])
    thin = list(Source(long, info, Crop(0, 0, 320), first=60, last=83).frames(25, every=5))
    assert np.array_equal(thin, whole[60:83:5])


def test_shots_in_part() -> None:
    """A part of the shots lies and is lit as in the whole."""
    whole = Shots(
        np.array([0.0, 2.0, 5.0]), np.tile(np.eye(2, 3), (3, 1, 1)) * [[[1.0]], [[2.0]], [[3.0]]],
        np.tile([1.0, 0.0], (3, 3, 1)), np.array([1.0, 0.9, 0.2]), 0, np.zeros((1, 1, 3), np.uint8),
    )  # fmt: skip
    part = whole.part(1, 3)
    assert len(part) == 2 and part.usable.tolist() == [True, False]
    for time in (2.5, 4.9, 5.1, 9.0):
        assert np.array_equal(part.place[part.at(time)], whole.place[whole.at(time)])
