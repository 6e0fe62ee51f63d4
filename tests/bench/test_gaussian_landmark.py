"""The tables of Gaussian landmarks: each comes out of a synthetic speaker, and measures what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.gaussian_landmark import avatars, fields, mouths
from bench.gaussian_landmark.__main__ import PICTURES, main
from bench.gaussian_landmark.avatars import Subject, distribution
from bench.gaussian_landmark.speech import Options, spread_of
from nldf_engine.base.files import read_json
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.media.pictures import read_picture
from nldf_engine.training import TrainConfig, train
from nldf_engine.training.presets import find_preset


class Played:
    """A detector whose face opens lids and lips by a little more in every clip that it is made for."""

    made = 0

    def __init__(self, *_: Any) -> None:
        type(self).made += 1
        self._face = np.random.default_rng(0).uniform(0, 512, (478, 2)).astype(np.float32)
        self._face[[145, 374, 14]] = self._face[[159, 386, 13]] + [0, type(self).made]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        return self._face

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def avatar(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hardly trained."""
    path = tmp_path_factory.mktemp("marked") / "me"
    quick = {"landmarks.steps": "2", "torso_steps": "2", "most_heads": "2"}
    train("gaussian-landmark-tiny", synthetic_dataset.path, path, TrainConfig(steps=2, overrides=quick))
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields of the tiny preset, and a detector that needs no model."""
    for module in (fields, mouths):
        monkeypatch.setattr(module, "PRESET", "gaussian-landmark-tiny")
    monkeypatch.setattr(avatars, "FaceMesh", Played)
    monkeypatch.setattr(avatars, "SPEED_FRAMES", 2)


@pytest.mark.parametrize("name", ["encoders", "encodings", "mouth", "carrying"])
def test_a_table_of_a_dataset(
    synthetic_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Rows with the same finite columns, as Markdown and as JSON."""
    numbers = tmp_path / "numbers.json"
    given = [name, str(synthetic_dataset.path), "--steps", "2", "--seeds", "2", "--frames", "2"]
    assert main([*given, "--json", str(numbers), "--cache", str(tmp_path)]) == 0
    rows, printed = read_json(numbers)["rows"], capsys.readouterr().out
    assert len(rows) == {"encoders": 4, "encodings": 7, "mouth": 5, "carrying": 6}[name]
    assert len({tuple(row) for row in rows.values()}) == 1, "the same columns"
    for label, row in rows.items():
        assert f"| {label} |" in printed
        finite = [value for column, value in row.items() if column != "lpips"]
        assert np.isfinite(finite).all(), (label, row)


@pytest.mark.parametrize("name", ["distribution", "sliders", "torso", "speed"])
def test_a_table_of_an_avatar(
    avatar: Path, synthetic_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """As Markdown and JSON, with a picture where there is one."""
    numbers, picture = tmp_path / "numbers.json", tmp_path / "picture.png"
    given = [name, str(avatar), str(synthetic_dataset.path), "--frames", "3", "--json", str(numbers)]
    assert main([*given, *(["--picture", str(picture)] if name in PICTURES else [])]) == 0
    rows = read_json(numbers)["rows"]
    assert f"## {name}" in capsys.readouterr().out and picture.is_file() == (name in PICTURES)
    if picture.is_file():
        assert read_picture(picture, "").std() > 5
    if name == "sliders":
        assert rows["jaw rises"] == {"landmarks_mm": 1.0, "seen": 1.0} == rows["lids rises"]
        assert rows["jaw 6"]["landmarks_mm"] == pytest.approx(rows["jaw 0"]["landmarks_mm"] + 6, abs=0.01)
        assert rows["lids 0"]["landmarks_mm"] == pytest.approx(0, abs=0.2)
    if name == "torso":
        assert set(rows) == {"head alone", "before the plate", "completed"}
        assert rows["before the plate"]["psnr_neck"] > rows["head alone"]["psnr_neck"] + 1
    if name == "speed":
        (row,) = rows.values()
        assert row["stream_equals_clip"] is True and row["frames_s"] > 0 and row["us_ray"] > 0


def test_the_distribution_tells_near_from_far(avatar: Path, synthetic_dataset: Dataset) -> None:
    """Training frames are at no distance of themselves; what is moved further from the mean is farther."""
    subject = Subject(avatar, Path(synthetic_dataset.path), Options(split="train"))
    speech = subject.track.clone()
    subject.spoken = lambda: speech  # type: ignore[method-assign]
    rows = distribution(subject)
    assert rows["real"]["p95"] == pytest.approx(0, abs=1e-4) == rows["predicted"]["p95"]
    far = rows["predicted, 1.5 times"]
    assert far["median"] > 0.01 and far["beyond"] > 0.9


def test_means_and_deviations() -> None:
    """Of several seeds; of one there is no deviation."""
    assert spread_of([{"a": 1.0}, {"a": 3.0}]) == {"a": 2.0, "a ±": pytest.approx(2**0.5)}
    assert spread_of([{"a": 1.0}]) == {"a": 1.0}


def test_steps_of_stage_1() -> None:
    """--steps shortens the speech network's training and nothing else of the recipe."""
    usual, short = Options().recipe(), Options(steps=3).recipe()
    assert short.landmarks.steps == 3 and usual == find_preset("gaussian-landmark-small").recipe
    assert short.steps == usual.steps


def test_wrong_usage(avatar: Path, synthetic_dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """No such table, too many paths, no steps, a picture of what draws none; an avatar without landmarks."""
    data = str(synthetic_dataset.path)
    assert main(["colours", data]) == 2
    assert main(["encoders", str(avatar), data]) == 2
    assert main(["sliders", data]) == 2
    assert main(["encoders", data, "--steps", "0"]) == 2
    assert main(["speed", str(avatar), data, "--picture", "x.png"]) == 2
    assert main(["sliders", str(avatar), data, "--split", "nowhere"]) == 1
    assert "split" in capsys.readouterr().err
