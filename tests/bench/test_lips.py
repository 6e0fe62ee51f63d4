"""The tables of lips: each of them comes out of a synthetic speaker, and its measures mean what they say."""

from pathlib import Path

import pytest
import torch

from bench.lips import tables
from bench.lips.__main__ import main
from bench.lips.metrics import NAMES, measure
from bench.lips.tables import TABLES
from nldf_engine.base.files import read_json
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.systems.common.motion import MotionBasis
from nldf_engine.training.motion import fit_basis


@pytest.mark.parametrize("name", TABLES)
def test_a_table(
    name: str,
    synthetic_dataset: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows with every measure, a finite one, as Markdown and as JSON."""
    monkeypatch.setattr(tables, "LATENCIES", (0.3,))
    speaker, numbers = str(synthetic_dataset.path), tmp_path / "numbers.json"
    assert main([name, speaker, "--steps", "2", "--json", str(numbers), "--cache", str(tmp_path)]) == 0
    (rows,) = read_json(numbers)["speakers"].values()
    printed = capsys.readouterr().out
    assert len(rows) >= 2 and len({row["label"] for row in rows}) == len(rows)
    for row in rows:
        assert f"| {row['label']} |" in printed
        for measured in (row["unseen"], row["heldout"]):
            assert measured.keys() == NAMES.keys()
            assert torch.tensor(list(measured.values())).isfinite().all()


def test_measures(synthetic_dataset: Dataset) -> None:
    """Tracked codes are perfect; halved ones open half as far, and follow as well."""
    basis = MotionBasis(8)
    frames = torch.from_numpy(synthetic_dataset.indices("train"))
    codes = fit_basis(basis, synthetic_dataset, frames)
    perfect = measure(basis, codes, codes, frames)
    assert perfect["r"] == pytest.approx(1) and perfect["amplitude"] == pytest.approx(1)
    assert perfect["auc"] == pytest.approx(1) and perfect["f1"] == pytest.approx(1)
    assert perfect["explained"] == pytest.approx(1) and perfect["error"] == pytest.approx(0, abs=1e-6)
    half = measure(basis, codes / 2, codes, frames)
    assert half["r"] == pytest.approx(1) and half["amplitude"] == pytest.approx(0.5, rel=1e-3)
    assert half["explained"] < 1 and half["distribution"] > 0.1


def test_wrong_usage(synthetic_dataset: Dataset) -> None:
    """An unknown table and no steps are refused."""
    assert main(["sound", str(synthetic_dataset.path)]) == 2
    assert main(["prior", str(synthetic_dataset.path), "--steps", "0"]) == 2
