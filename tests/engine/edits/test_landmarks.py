"""Landmarks of a clip: read, given back, edited by sliders, held in the training video's range."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from landmark_avatars import landmark_avatar, talking_driver, talking_track
from nldf_engine.apps.cli import main as cli
from nldf_engine.apps.cli.command import UsageError
from nldf_engine.apps.cli.edits import EditFlags
from nldf_engine.base import progress
from nldf_engine.datasets.format import write_wav
from nldf_engine.engine import Engine, scenes
from nldf_engine.engine.edits import Edit, EyesEdit, LandmarkEdit, LandmarkWarning
from nldf_engine.engine.edits.landmarks import Landmarks
from nldf_engine.engine.scenes import RETURNING
from nldf_engine.geometry.landmark_files import load_landmarks, save_landmarks
from nldf_engine.rendering.fields import Conditions
from nldf_engine.systems.gaussian_landmark.driver import lip_opening

SOUND = (0.3 * np.sin(np.arange(16000) / 8 * (1 + np.arange(16000) / 16000)).astype(np.float32), 16000)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(landmark_avatar(), torch.device("cpu"))


def gap(track: torch.Tensor, upper: int, lower: int) -> torch.Tensor:
    """[T] metres between the lids."""
    return track[:, lower, 1] - track[:, upper, 1]


# Slider, values in increasing order, what has to grow, and by how much from the first to the last, metres.
SLIDERS: list[tuple[str, list[Any], Any, float | None]] = [
    ("lids", [0.0, 0.5, 1.0, 1.5, 2.0], lambda t: gap(t, 37, 41), None),
    ("lids", [(1.0, 0.0), (1.0, 0.5), (1.0, 2.0)], lambda t: gap(t, 43, 47), None),
    ("mouth", [0.0, 0.5, 1.0, 2.0], lambda t: lip_opening(t).std()[None], None),
    ("jaw", [-3.0, 0.0, 4.0, 12.0], lip_opening, 0.015),
    ("jaw", [-3.0, 0.0, 4.0, 12.0], lambda t: t[:, 8, 1], 0.015),
    ("lip_corners", [-5.0, 0.0, 5.0], lambda t: -t[:, 48, 1], 0.010),
    ("mouth_width", [-6.0, 0.0, 6.0], lambda t: t[:, 54, 0] - t[:, 48, 0], 0.012),
    ("brows", [-4.0, 0.0, 4.0], lambda t: -t[:, 19, 1], 0.008),
]


@pytest.mark.parametrize(
    ("name", "values", "measure", "moved"), SLIDERS, ids=[f"{s[0]}{k}" for k, s in enumerate(SLIDERS)]
)
def test_sliders_are_monotone_in_their_units(
    name: str, values: list[Any], measure: Any, moved: float | None
) -> None:
    track, _ = talking_track()
    usual = track.mean(0)
    seen = torch.stack([measure(LandmarkEdit(**{name: value})(track, usual)) for value in values])
    assert (seen[1:] > seen[:-1] + 1e-6).all()
    if moved is not None:
        torch.testing.assert_close(seen[-1] - seen[0], torch.full_like(seen[0], moved), atol=1e-6, rtol=0)


def test_lids_close_and_nothing_else_moves() -> None:
    """At 0 the lids meet; one eye alone leaves the other; the landmarks that are given stay as they are."""
    track, _ = talking_track()
    before = track.clone()
    shut = LandmarkEdit(lids=0.0)(track, track[0])
    assert torch.equal(track, before)
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        assert gap(shut, upper, lower).abs().max() < 1e-7
    one = LandmarkEdit(lids=(0.0, 1.0))(track, track[0])
    changed = (one != track).flatten(2).any(2).any(0).nonzero()[:, 0].tolist()
    assert changed == [37, 38, 40, 41]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lids": 2.5}, "lids: expected 0 to 2"), ({"lids": (1.0, 1.0, 1.0)}, "one number or two"),
        ({"mouth": -1}, "mouth: expected 0 to 2"), ({"jaw": 25.0}, "jaw: expected -20 to 20 millimetres"),
        ({"brows": float("nan")}, "brows: expected"),
        ({"limit": "hold"}, "limit: expected one of warn, clamp, off"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LandmarkEdit(**wrong)


def test_beyond_the_training_video_is_said_once_and_held() -> None:
    """One warning that says which part leads how far; clamp comes to rest at most a little outside; off is
    silent."""
    driver = talking_driver()
    track, _ = talking_track(30)
    wide = track.clone()
    wide[:, 57, 1] += 0.03
    clip = Conditions(torch.zeros(30, 16, 29), torch.full((30,), 0.28), landmarks=wide)
    edited = Landmarks(LandmarkEdit(), driver)
    with pytest.warns(
        LandmarkWarning, match=r"lips by up to .* mm in 100 % of the frames; expect flaws"
    ) as said:
        edited(clip)
        edited(clip)
    assert len(said) == 1 and "eyes" not in str(said[0].message)
    with pytest.warns(LandmarkWarning, match="held there"):
        held = Landmarks(LandmarkEdit(limit="clamp"), driver)(clip).get("landmarks")
    assert held is not None and float(held[:, 57, 1].max()) < float(driver.high[57, 1]) + 0.005
    assert torch.equal(held[:, :27], track[:, :27])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(Landmarks(LandmarkEdit(limit="off"), driver)(clip).get("landmarks"), wide)
        Landmarks(LandmarkEdit(), driver)(clip.replaced(landmarks=track))


def test_landmarks_of_a_clip_come_back_as_its_frames(engine: Engine) -> None:
    """What `landmarks` gives renders the same frames; moved lips render others."""
    marks = engine.landmarks(SOUND)
    assert marks.shape == (25, 68, 3) and marks.dtype == np.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LandmarkWarning)
        plain, given = engine.render(SOUND).frames[:], engine.render(SOUND, landmarks=marks).frames[:]
        assert np.abs(plain.astype(int) - given).max() <= 1
        marks[:, 48:68, 1] += 0.004
        assert np.abs(plain.astype(int) - engine.render(SOUND, landmarks=marks).frames[:]).max() > 3
        edit = Edit(landmarks=LandmarkEdit(jaw=5, limit="off"))
        assert np.abs(plain.astype(int) - engine.render(SOUND, edit=edit).frames[:]).max() > 3


def test_landmarks_of_a_long_clip_are_made_in_pieces(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same result, in memory that does not grow with the clip."""
    whole = engine.landmarks(SOUND)
    monkeypatch.setattr(scenes, "FOLLOWED_AT_ONCE", 7)
    np.testing.assert_allclose(engine.landmarks(SOUND), whole, atol=1e-7)


def test_following_a_long_sound_shows_its_progress(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For landmarks as for frames; with an estimate of what is left."""
    monkeypatch.setattr(scenes, "FOLLOWED_AT_ONCE", 7)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    for made in (engine.landmarks, engine.render):
        made(SOUND)
        said = capsys.readouterr().err
        assert "follow the speech  28 % 7/25 frames" in said and "left" in said


def test_a_stream_shows_what_the_clip_does(engine: Engine) -> None:
    """Though every frame goes on from all before it; and an interruption begins the face anew."""
    whole = engine.render(SOUND).frames[:]
    for step in (640, 1000, 4000):
        chunks = [SOUND[0][first : first + step] for first in range(0, 16000, step)]
        streamed = np.stack(list(engine.stream(chunks)))
        assert streamed.shape == whole.shape and np.abs(streamed.astype(int) - whole).max() <= 1


def test_an_interruption_begins_the_face_anew(engine: Engine) -> None:
    """Behind the frames in which it goes over, nothing is left of what was said before."""
    still = Edit(eyes=EyesEdit("none"))
    whole = engine.render(SOUND, "still", edit=still).frames[:]
    session = engine.session("still", edit=still)
    assert session.push(SOUND[0][:9000])
    session.interrupt()
    rest = [*session.push(SOUND[0]), *session.finish()]
    apart = [
        int(np.abs(one.picture.astype(int) - other).max()) for one, other in zip(rest, whole, strict=True)
    ]
    assert max(apart[RETURNING:]) <= 1 and max(apart[:RETURNING]) > 1


def test_given_landmarks_that_can_not_be_used_are_refused(engine: Engine) -> None:
    marks = engine.landmarks(SOUND)
    for wrong, message in (
        (marks[:20], "landmarks: expected 25 frames, as the sound has, got 20"),
        (marks[..., :2], "those are 2-D"), (1000 * marks, "millimetres"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            engine.render(SOUND, landmarks=wrong)
    with pytest.raises(ValueError, match="audio: expected features"):
        engine.render(torch.zeros(5, 16, 30))
    other = Engine(tiny_avatar(), torch.device("cpu"))
    for call in (
        lambda: other.landmarks(SOUND), lambda: other.render(SOUND, landmarks=marks),
        lambda: other.render(SOUND, edit=Edit(landmarks=LandmarkEdit(jaw=1))),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="landmarks: this avatar is not driven by landmarks"):
            call()


def test_flags_make_the_edit() -> None:
    flags = EditFlags(lids="1,0.5", mouth_gain=1.5, jaw=2, lip_corners=-1, mouth_width=3, brow_height=4)
    assert flags.edit("track").landmarks == LandmarkEdit((1.0, 0.5), 1.5, 2, -1, 3, 4)
    assert EditFlags().edit("track").landmarks is None
    for wrong in ({"lids": "a"}, {"lids": "3"}, {"lids": "1,1,1"}, {"jaw": 99.0}, {"landmark_limit": "no"}):
        with pytest.raises(UsageError, match=r"lids|jaw|limit"):
            EditFlags(**wrong).edit("track")


def test_the_commands(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """`nldf landmarks` writes a track that `nldf render --landmarks` takes; what is wrong is one line and
    code 1."""
    monkeypatch.setattr(Engine, "load", classmethod(lambda *a, **k: engine))
    write_wav(tmp_path / "speech.wav", SOUND[0])
    (tmp_path / "avatar").mkdir()
    given = [str(tmp_path / "avatar"), str(tmp_path / "speech.wav")]
    track = tmp_path / "track.safetensors"
    assert cli.main(["landmarks", *given, "-o", str(track)]) == 0
    assert capsys.readouterr().out == f"{track}: 25 frames of 68 landmarks\n"
    assert load_landmarks(track).shape == (25, 68, 3)
    out = tmp_path / "out.mp4"
    assert cli.main(["render", *given, "-o", str(out), "--landmarks", str(track), "--no-provenance"]) == 0
    assert out.stat().st_size > 0
    save_landmarks(track, load_landmarks(track)[:7])
    assert cli.main(["render", *given, "-o", str(out), "--landmarks", str(track)]) == 1
    assert "expected 25 frames, as the sound has, got 7" in capsys.readouterr().err
    assert cli.main(["landmarks", *given, "-o", str(tmp_path / "track.npy")]) == 1
    assert "end in .safetensors" in capsys.readouterr().err
