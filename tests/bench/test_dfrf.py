"""What the references of DFRF avatars decide: the table, its picture, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.dfrf.__main__ import main
from bench.dfrf.tables import Subject, psnr, references
from nldf_engine.base.assets import ASSETS
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import read_json
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.training import TrainConfig, train


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, synthetic_dataset: Dataset) -> list[Path]:
    """Avatars of one short run over two speakers, each with its dataset."""
    folder = tmp_path_factory.mktemp("references")
    config = SyntheticConfig(seconds=3.0, size=64, seed=1, looks=3, audio_frontend="mel")
    other = make_synthetic_dataset(folder / "other", config).path
    given = {"spread": "off", "speech_steps": "2", "adapt_steps": "2"}
    made = train(
        "dfrf-tiny", [synthetic_dataset.path, other], folder / "ada", TrainConfig(steps=6, overrides=given)
    )
    return [made.avatars[0], synthetic_dataset.path, made.avatars[1], other]


def test_other_references_are_another_picture(pairs: list[Path]) -> None:
    """By its own an avatar draws what its engine draws; afterwards it has them again."""
    one, other = Subject(*pairs[:2], frames=2), Subject(*pairs[2:], frames=2)
    own = one.rendered(one.own)
    assert own.shape == one.real().shape == (2, 32, 32, 3)
    assert np.abs(one.rendered(other.own).astype(int) - own).max() > 0
    assert np.array_equal(one.rendered(one.own), own)
    found = references([one, other])
    assert found[one.name][one.name] == pytest.approx(psnr(own, one.real()))
    assert found[one.name][other.name] != found[one.name][one.name]


def test_the_command_prints_a_table_and_a_picture(
    pairs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--frames", "2", "--picture", str(tmp_path / "r.png"), "--json", str(tmp_path / "r.json")]
    assert main(["references", *map(str, pairs), *flags]) == 0
    names = [path.name for path in pairs[::2]]
    assert f"| | {names[0]} | {names[1]} |" in capsys.readouterr().out
    assert Image.open(tmp_path / "r.png").size == (3 * 32, 2 * 32)
    assert list(read_json(tmp_path / "r.json")["references"]) == names


def test_wrong_usage_and_other_systems_are_refused(
    pairs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for given, said in (
        (["swaps", *pairs], "there is no table 'swaps'; there are references"),
        (["references", *pairs[:2]], "give 2 AVATARs or more"),
        (["references", *pairs[:2], *pairs[:2]], "avatars must have different names"),
        (["references", *pairs, "--frames", "0"], "--frames must be at least 1"),
    ):
        assert main([str(one) for one in given]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(FileProblem, match="an avatar of 'nldf-fast', which has no reference pictures"):
        Subject(ASSETS / "avatar", pairs[1])
    with pytest.raises(ValueError, match="expected two avatars or more, got 0"):
        references([])
