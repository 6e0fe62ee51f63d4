"""A system that another package brings trains, saves, loads, renders, streams and is evaluated like ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from nldf_engine.datasets.dataset import Dataset

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "outside_system"
PROGRAM = """
import json, sys
import numpy as np
from nldf_engine import Engine
from nldf_engine.evaluation import EvaluateConfig, evaluate
from nldf_engine.training import TrainConfig, train

data, avatar, out = sys.argv[1:]
overrides = {"driving.speech_steps": "10", "rays": "512"}
result = train("plane-mlp", data, avatar, TrainConfig(steps=60, overrides=overrides))
engine = Engine.load(avatar)
sound = (np.random.default_rng(0).uniform(-0.1, 0.1, 16000).astype(np.float32), 16000)
rendered = engine.render(sound).frames[:]
streamed = np.stack(list(engine.stream([sound])))
scores = evaluate(avatar, data, out, EvaluateConfig(every=8))
print(json.dumps({
    "system": engine.avatar.system, "history": [row["pixel"] for row in result.history],
    "shape": list(rendered.shape), "apart": int(np.abs(rendered.astype(int) - streamed).max()),
    "psnr": scores["psnr"],
}))
"""


def test_an_outside_package_is_a_system(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Found by its entry point; it learns, and what is rendered, streamed and measured is its avatar's."""
    site = tmp_path / "site"
    shutil.copytree(EXAMPLE / "plane_mlp", site / "plane_mlp")
    about = site / "plane_mlp-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plane_mlp\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[nldf_engine.systems]\nplane-mlp = plane_mlp:SYSTEM\n")
    arguments = [str(synthetic_dataset.path), str(tmp_path / "me"), str(tmp_path / "scores")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["system"] == "plane-mlp"
    assert found["history"][-1] < 0.7 * found["history"][0]
    assert found["shape"] == [25, 32, 32, 3] and found["apart"] <= 1
    assert found["psnr"] > 10
    saved = json.loads((tmp_path / "me" / "avatar.json").read_text())
    assert saved["system"] == "plane-mlp" and saved["config"]["width"] == 64


def test_the_example_is_short() -> None:
    """The worked example is what CONTRIBUTING says: a package of under 150 lines."""
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml")]
    assert sum(len(path.read_text().splitlines()) for path in files) < 150
