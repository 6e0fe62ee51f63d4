"""Two processes on one run: one avatar, the same weights in both, other rays in each."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from nldf_engine.avatar import Avatar
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.training import distributed

PROGRAM = """
import json, os, sys
import torch
from nldf_engine.training import TrainConfig, run, trainer

data, avatar, out = sys.argv[1:]
drawn, original = [], trainer.Trainer.run

def running(self, label):
    original(self, label)
    weights = torch.cat([value.double().flatten() for value in self.network.state_dict().values()])
    state = float(self.generator.get_state().double().sum())
    with open(f"{out}-{os.environ['RANK']}.json", "w") as stream:
        json.dump({"weights": float(weights.sum()), "random": state, "steps": self.state.step}, stream)

trainer.Trainer.run = running
overrides = {"speech_steps": "3", "torso": "plate", "rays": "128"}
run.train("nldf-tiny", data, avatar, TrainConfig(steps=8, overrides=overrides))
"""


def test_two_processes_train_one_avatar(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Gradients are averaged: both end in the same weights though they drew other rays; one writes."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    arguments = [str(synthetic_dataset.path), str(tmp_path / "me"), str(tmp_path / "rank")]
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, str(program), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank-{n}.json").read_text()) for n in (0, 1))
    assert first["steps"] == second["steps"] == 8
    assert first["weights"] == second["weights"] and first["random"] != second["random"]
    assert Avatar.load(tmp_path / "me").provenance["steps"] == 8


def test_one_process_is_the_first() -> None:
    """Without torchrun there is one process, and its generator is that of the seed alone."""
    assert distributed.world() == 1 and distributed.is_first()
    ours, theirs = distributed.generator(7), torch.Generator().manual_seed(7)
    assert torch.equal(torch.rand(3, generator=ours), torch.rand(3, generator=theirs))
