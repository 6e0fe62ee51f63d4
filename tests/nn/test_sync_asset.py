"""The judge that comes with the package: small, of the front-end at hand, and nothing else passes for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nldf_engine.audio import whisper
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import sha256
from nldf_engine.nn import sync
from nldf_engine.nn.sync import ASSET, DIGEST, sync_judge


@pytest.fixture(autouse=True)
def read_anew() -> Iterator[None]:
    """No judge is kept from one test to the next."""
    sync_judge.cache_clear()
    yield
    sync_judge.cache_clear()


def test_the_asset_is_small_and_in_half_precision() -> None:
    """Under 2 MB, the digest of the code, fp16 alone."""
    assert sha256(ASSET) == DIGEST and ASSET.stat().st_size < 2e6
    assert {value.dtype for value in load_file(ASSET).values()} == {torch.float16}


def test_it_is_frozen_and_fits_the_front_end() -> None:
    """No weight takes a gradient, nothing is random, and its rows are those of the bundled front-end."""
    judge = sync_judge()
    assert not judge.training and not any(weight.requires_grad for weight in judge.parameters())
    assert judge.frontend.name == "whisper" and judge.dim_in == 65
    rows = torch.randn(2, judge.frames, 2, judge.dim_in)
    assert torch.equal(judge.audio(rows), judge.audio(rows))
    assert judge.lips(torch.zeros(3, judge.frames, 40, 2)).isfinite().all()


def test_a_changed_or_missing_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of another value, a cut file and none: the path and what to do."""
    content = bytearray(ASSET.read_bytes())
    content[-3] ^= 1
    for name, written in (("changed", bytes(content)), ("cut", bytes(content[:-10]))):
        path = tmp_path / name
        path.write_bytes(written)
        monkeypatch.setattr(sync, "ASSET", path)
        with pytest.raises(FileProblem, match="not the file that was shipped") as error:
            sync_judge()
        assert error.value.path == path
    monkeypatch.setattr(sync, "ASSET", tmp_path / "none")
    with pytest.raises(FileProblem, match="lacks it"):
        sync_judge()


def test_a_judge_of_another_front_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other weights of the front-end make other rows: the judge says so instead of judging at random."""
    monkeypatch.setattr(whisper, "DIGEST", "0" * 64)
    with pytest.raises(FileProblem, match="other weights of the front-end"):
        sync_judge()
