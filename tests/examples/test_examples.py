"""examples/: the programs that compare avatars and take their error apart, on a dataset and an avatar."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.datasets.dataset import Dataset

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """Runs an example as a person would."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_gap_tells_the_parts_of_an_error(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Row by row the avatar is told less, of frames of both parts; a table, a file and a picture come out."""
    out = tmp_path / "gap"
    run("gap.py", monkeypatch, bundled_avatar(), synthetic_dataset.path, "--frames", 2, "--out", out)
    table = json.loads((out / "gap.json").read_text())
    assert list(table) == ["all as tracked", "mouth by sound", "and torso by pose", "and no brows"]
    for row in table.values():
        assert set(row) == {"training part", "held out"}
        assert all(5 < row[part][region] < 60 for part in row for region in ("frame", "head", "mouth"))
    # Who is told other things draws other pictures. The avatar is of another speaker than the dataset, so
    # which of them come closer is chance.
    held = [row["held out"] for row in table.values()]
    assert len({row["foreground"] for row in held}) == len(held)
    assert (out / "gap.png").is_file()
    assert "| all as tracked | held out |" in capsys.readouterr().out


def test_compare_lays_avatars_side_by_side(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Quality and frames a second of every avatar, on the same held-out frames."""
    out = tmp_path / "compared"
    run("compare.py", monkeypatch, synthetic_dataset.path, bundled_avatar(), "--frames", 2, "--out", out)
    (row,) = json.loads((out / "table.json").read_text()).values()
    assert row["frames_per_second"] > 0 and 5 < row["psnr"] < 60
    assert (out / "frames.png").is_file()
    assert row["system"] in capsys.readouterr().out
