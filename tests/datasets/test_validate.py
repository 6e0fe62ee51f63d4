"""validate: good folders pass, bad ones say what is wrong and what to do about it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_dataset import T, make

from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.problems import Problem
from nldf_engine.datasets.validate import validate


def test_good_dataset(tmp_path: Path) -> None:
    """A whole dataset has no problems, besides those its own report still names."""
    dataset = make(tmp_path / "speaker")
    assert validate(dataset.path) == []
    known = Problem("sound", "the sound is quiet", "record it louder", "warning")
    (dataset.path / "report.json").write_text(json.dumps({"problems": [known.to_json()]}))
    edited, said = validate(dataset.path)
    assert said == known and edited.severity == "note" and edited.where.endswith("report.json")


@pytest.mark.parametrize("name", ["video.mp4", "parsing.mkv", "audio.wav", "track.safetensors"])
def test_changed_bytes_of_the_same_size(tmp_path: Path, name: str) -> None:
    """One changed byte is an error that names the file; its size shows nothing."""
    path = make(tmp_path / "speaker").path
    before = Dataset.open(path).hash()
    data = bytearray((path / name).read_bytes())
    data[-1] ^= 1
    (path / name).write_bytes(bytes(data))
    found = [p for p in validate(path) if p.severity == "error" and p.where.endswith(name)]
    assert found and "changed or damaged" in found[0].what and "copy the dataset again" in found[0].remedy
    with pytest.raises(FileProblem, match="changed or damaged"):
        Dataset.open(path).check_unchanged()
    assert Dataset.open(path).hash() != before


def test_an_edited_background_is_noted(tmp_path: Path) -> None:
    """Another picture of the right size is a note, no error; the dataset's hash is another."""
    path = make(tmp_path / "speaker").path
    before = Dataset.open(path).hash()
    dataset = Dataset.open(path)
    png = cv2.imencode(".png", np.zeros_like(dataset.background()))[1].tobytes()
    (path / "background.png").write_bytes(png)
    (problem,) = validate(path)
    assert problem.severity == "note" and "if you edited it" in problem.remedy
    Dataset.open(path).check_unchanged()
    assert Dataset.open(path).hash() != before


def test_without_digests_there_is_nothing_to_compare(tmp_path: Path) -> None:
    """A dataset.json that says nothing of the files still opens; validate says what can't be checked."""
    path = make(tmp_path / "speaker").path
    info = json.loads((path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps({**info, "files": {}}))
    (problem,) = validate(path)
    assert problem.severity == "note" and "nothing to compare" in problem.what
    Dataset.open(path).check_unchanged()


def test_damage_inside(tmp_path: Path) -> None:
    """Damage that only shows when a part is decoded is found, each part by itself."""
    path = make(tmp_path / "speaker").path
    (path / "background.png").write_bytes(b"x")
    labels = path / "parsing.mkv"
    data = bytearray(labels.read_bytes())
    data[len(data) // 4 : -len(data) // 4] = bytes(len(data) - len(data) // 4 - len(data) // 4)[
        : len(data[len(data) // 4 : -len(data) // 4])
    ]
    labels.write_bytes(bytes(data))
    places = [Path(p.where).name for p in validate(path)]
    assert "background.png" in places and "parsing.mkv" in places


def test_no_faces_left(tmp_path: Path) -> None:
    """A dataset whose held-out part shows no face is not fit for evaluation, and says so."""
    dataset = make(tmp_path / "a")
    track = {
        "poses": dataset.poses,
        "landmarks": dataset.landmarks,
        "eye_openness": dataset.eye_openness,
        "valid": np.arange(T) < 30,
    }
    problems = validate(make(tmp_path / "b", track=track).path)
    assert [p.severity for p in problems] == ["severe"] and "heldout" in problems[0].what


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "other"])
def test_unknown_folders(tmp_path: Path, kind: str) -> None:
    """What is neither dataset nor avatar is reported with what was searched for."""
    path = tmp_path / "x"
    if kind == "file":
        path.touch()
    elif kind != "missing":
        path.mkdir()
    if kind == "other":
        (path / "holiday.jpg").touch()
    (problem,) = validate(path)
    assert problem.severity == "error" and problem.where == str(path)
    if kind in ("empty", "other"):
        assert "dataset.json" in problem.what and "avatar.json" in problem.what
        assert ("holiday.jpg" if kind == "other" else "nothing") in problem.what


def test_broken_avatar(tmp_path: Path) -> None:
    """A damaged avatar folder is reported as a problem, not as a traceback."""
    (tmp_path / "avatar.json").write_text("{")
    (problem,) = validate(tmp_path)
    assert problem.severity == "error" and "avatar.json" in problem.where


def test_problem_text() -> None:
    """A problem reads as one line; an unknown severity is refused."""
    problem = Problem("sound", "it is silent", "record it", "severe")
    assert str(problem) == "severe: sound: it is silent. To fix it: record it."
    assert problem.to_json()["mend"] == "record it"  # the key of existing files
    with pytest.raises(ValueError, match="severity"):
        Problem("a", "b", "c", "bad")
