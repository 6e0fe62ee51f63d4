"""AD-NeRF's checkpoints as files: none is run, wrong ones are named, `nldf import` makes an avatar."""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foreign_folders import random_checkpoint, save_checkpoint
from foreign_networks import BOUNDS, random_body
from nldf_engine.apps.cli import main as cli
from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets import open_dataset
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.systems.adnerf.model import RadianceField
from nldf_engine.systems.adnerf.released import check_body, import_head, read_checkpoint
from nldf_engine.systems.common.torso_field import TorsoField


class Writes:
    """Unpickling an object of this class would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_hostile_pickles_run_nothing(tmp_path: Path) -> None:
    """A checkpoint whose unpickling would write a file is refused, in either format, and writes none."""
    mark = tmp_path / "executed"
    hostile = {**random_checkpoint(), "global_step": Writes(mark)}
    old, bare = io.BytesIO(), pickle.dumps(hostile["global_step"])
    torch.save(hostile, tmp_path / "new_head.tar")
    torch.save(hostile, old, _use_new_zipfile_serialization=False)
    (tmp_path / "old_head.tar").write_bytes(old.getvalue())
    (tmp_path / "bare_head.tar").write_bytes(bare)
    for name in ("new", "old", "bare"):
        with pytest.raises(FileProblem, match=r"refused|can't be read"):
            read_checkpoint(tmp_path / f"{name}_head.tar")
        assert not mark.exists()
    pickle.loads(bare)  # the files were armed
    assert mark.exists()


def test_wrong_files(tmp_path: Path) -> None:
    """Whatever is no AD-NeRF head is refused with what was found."""
    weights = random_checkpoint()
    path = save_checkpoint(tmp_path / "good_head.tar", weights)
    whole = path.read_bytes()

    def refused(changed: Any, match: str) -> None:
        save_checkpoint(path, changed) if isinstance(changed, dict) else path.write_bytes(changed)
        with pytest.raises(FileProblem, match=match):
            import_head(read_checkpoint(path), BOUNDS)

    refused(whole[: len(whole) // 2], "refused|can't be read")
    refused(b"", "refused|can't be read")
    refused({k: v for k, v in weights.items() if "fine" not in k}, "no network_fine_state_dict; it holds")
    broken = random_checkpoint()
    broken["network_fn_state_dict"]["rgb_linear.bias"][1] = np.nan
    refused(broken, "rgb_linear.bias holds NaN")
    broken = random_checkpoint()
    del broken["network_audnet_state_dict"]["encoder_conv.4.bias"]
    refused(broken, "first that differs is encoder.audio.net.encoder_conv.4.bias")
    broken = random_checkpoint()
    broken["network_fn_state_dict"]["pts_linears.3.weight"] = torch.zeros(24, 30)
    refused(broken, "inputs; one skip was expected")
    narrow = random_checkpoint(width=16)["network_fine_state_dict"]
    refused({**weights, "network_fine_state_dict": narrow}, "differ in size")
    broken = random_checkpoint(extra=42)
    del broken["network_audattnet_state_dict"]
    refused(broken, "a body's and no head's")
    with pytest.raises(FileProblem, match="there is no such file"):
        read_checkpoint(tmp_path / "none.tar")
    with pytest.raises(FileProblem, match="a head's and no body's"):
        check_body(read_checkpoint(save_checkpoint(path, weights)))


def test_import_command(written: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`nldf import adnerf` makes an avatar of both fields that renders, and says what came of each file."""
    head = save_checkpoint(tmp_path / "300000_head.tar", random_checkpoint())
    body_file = save_checkpoint(tmp_path / "600000_body.tar", random_body(), 600_000)
    avatar, report = tmp_path / "avatar", tmp_path / "report.json"
    words = ["import", "adnerf", str(head), str(body_file), str(written["adnerf"]), "-o", str(avatar)]
    assert cli.main([*words, "--size", "16", "--json", str(report)]) == 0
    said = capsys.readouterr().out
    assert "300000_head.tar" in said and "600000_body.tar: the torso (step 600000)" in said
    assert json.loads(report.read_text())["body"]["step"] == 600_000
    loaded = Avatar.load(avatar)
    assert loaded.system == "adnerf" and loaded.frontend.name == "precomputed" and loaded.frontend.dim == 29
    assert loaded.provenance["dataset"] == open_dataset(written["adnerf"]).hash()
    assert loaded.provenance["imported"]["head"]["step"] == 300_000
    torso = loaded.portrait.torso
    assert isinstance(torso, TorsoField) and torso.in_front and isinstance(torso.field, RadianceField)
    np.save(tmp_path / "speech.npy", np.load(written["adnerf"] / "aud.npy")[:2])
    clip = Engine.load(avatar).render(tmp_path / "speech.npy", written["adnerf"])
    frames = np.stack(list(clip.frames))
    assert frames.shape == (2, 16, 16, 3) and frames.std() > 1


def test_import_command_refuses(
    written: dict[str, Path], synthetic_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong words end with 2, wrong files with 1 and one line; no avatar appears."""
    head = str(save_checkpoint(tmp_path / "300000_head.tar", random_checkpoint()))
    avatar = str(tmp_path / "avatar")
    cases = [
        (["radnerf", head, str(written["radnerf"])], 2, "nldf import adnerf"),
        (["adnerf", head], 2, "1 paths were given"),
        (["adnerf", head, str(synthetic_dataset.path)], 1, "give the folder that AD-NeRF trained on"),
        (["adnerf", head, head, str(written["adnerf"])], 1, "a head's and no body's"),
        (["adnerf", str(tmp_path / "x.tar"), str(written["adnerf"])], 1, "there is no such file"),
    ]
    for words, code, said in cases:
        assert cli.main(["import", *words, "-o", avatar]) == code
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not Path(avatar).exists()
