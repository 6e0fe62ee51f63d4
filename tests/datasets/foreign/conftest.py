"""Folders of the four layouts, made from the synthetic speaker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.foreign.write import export_layout


@pytest.fixture(scope="session")
def written(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The synthetic speaker in each layout; not to be written to."""
    top = tmp_path_factory.mktemp("layouts")
    folders = {name: top / name for name in ("adnerf", "radnerf")}
    for name, folder in folders.items():
        export_layout(synthetic_dataset, name, folder)
    # DFRF: as AD-NeRF, in a folder `0`, with the lips' box, the body's pictures and half for validation.
    inner = top / "dfrf" / "0"
    shutil.copytree(folders["adnerf"], inner)
    shutil.copytree(inner / "com_imgs", inner / "torso_imgs")
    for path in inner.glob("*_config.txt"):
        path.rename(inner / "config.txt")
    metas = [json.loads((inner / f"transforms_{name}.json").read_text()) for name in ("train", "val")]
    frames = [*metas[0]["frames"], *metas[1]["frames"]]
    for frame in frames:
        lips = np.loadtxt(inner / "ori_imgs" / f"{frame['img_id']}.lms")[48:]
        low, high = lips.min(0), lips.max(0)
        frame["lip_rect"] = [*map(int, low), *map(int, np.ceil(high - low) + 1)]
    cut = len(frames) // 2
    for name, meta, part in zip(("train", "val"), metas, (frames[:cut], frames[cut:]), strict=True):
        (inner / f"transforms_{name}.json").write_text(json.dumps({**meta, "frames": part}))
    # ER-NeRF: as RAD-NeRF, with OpenFace's blinks and HuBERT features beside DeepSpeech's.
    shutil.copytree(folders["radnerf"], top / "ernerf")
    count = len(synthetic_dataset)
    rows = [f"{k + 1}, {k / 25:.2f}, {2.5 * (k % 10 == 0):.2f}, 0.5" for k in range(count)]
    (top / "ernerf" / "au.csv").write_text("frame, timestamp, AU45_r, AU01_r\n" + "\n".join(rows) + "\n")
    features = np.random.default_rng(3).normal(size=(count, 2, 1024)).astype(np.float32)
    np.save(top / "ernerf" / "aud_hu.npy", features)
    return {**folders, "dfrf": top / "dfrf", "ernerf": top / "ernerf"}


@pytest.fixture
def copied(written: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the folders, to break."""

    def copy(layout: str) -> Path:
        target = tmp_path / layout
        shutil.copytree(written[layout], target)
        return target / "0" if layout == "dfrf" else target

    return copy
