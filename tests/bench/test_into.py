"""`python -m bench.into`: what it measures adds up, and what it says where it can't."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from bench.into.__main__ import main
from bench.into.measure import measure
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.media.video import VideoWriter
from nldf_engine.rendering.footage import Footage, square_places


@pytest.fixture
def footage(synthetic_dataset: Dataset, tmp_path: Path) -> Footage:
    """A film of noise beside the dataset's frames."""
    path = tmp_path / "film.mp4"
    wide = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    with VideoWriter(path, 160, 90, crf=6) as writer:
        for frame in synthetic_dataset.frames(64):
            wide[10:74, 30:94] = frame
            writer.write(wide)
    own, data = tiny_avatar().camera, synthetic_dataset
    return Footage(
        path, square_places(30, 10, 64, len(data)), own.scaled(64), data.poses, data.landmarks,
        data.eye_openness, data.torso_motion(), np.ones(len(data), bool),
    )  # fmt: skip


def test_it_is_measured(footage: Footage, tmp_path: Path) -> None:
    """By stage and all together; a lower quality would be seen in the rest of the picture."""
    features = tmp_path / "sound.npy"
    np.save(features, np.random.default_rng(1).random((60, 16, 29)).astype(np.float32))
    said: list[str] = []
    engine = Engine(tiny_avatar(), torch.device("cpu"))
    found = measure(engine, footage, features, "face", 30, ["superfast"], said.append)
    assert list(found["stages"]) == ["decode", "head", "paste", "encode superfast"] and len(said) == 8
    row = found["together"]["superfast"]
    assert 35 < row["psnr outside"] < 60 and row["frames/s"] > 0 and row["kB/s"] > 0 and found["peak MB"] > 50
    assert json.dumps(found)
    with pytest.raises(ValueError, match="4 s at least"):
        measure(engine, dataclasses.replace(footage), features, "face", 100, [], said.append)


def test_wrong_usage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, with what is known."""
    three = [str(tmp_path / name) for name in "abc"]
    for flags, what in (
        (["--region", "nose"], "--region is of head, face, mouth; it is nose"),
        (["--preset", "slow"], "--preset is of medium"), (["--frames", "0"], "--frames must be at least 1"),
    ):  # fmt: skip
        assert main([*three, *flags]) == 2
        assert what in capsys.readouterr().err
