"""Two processes on one run: one avatar, the same weights in both, other rays in each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nldf_engine.avatar import Avatar
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.training import distributed
from nldf_engine.training.checkpoint import read_state

PROGRAM = """
import json, os, signal, sys
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

def disturbed(self):
    if self.state.step == 3 and os.environ["RANK"] == os.environ.get("STOPPED"):
        os.kill(os.getpid(), signal.SIGINT)
    return step(self)

step = trainer.Trainer.step
trainer.Trainer.run, trainer.Trainer.step = running, disturbed
trainer.AGREED_STEPS = 2
overrides = {"speech_steps": "3", "torso": "plate", "rays": "128"}
run.train("nldf-tiny", data, avatar, TrainConfig(steps=8, overrides=overrides))
"""


def run_in_two(data: Dataset, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the program in two processes."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(program), str(data.path), str(folder / "me"), str(folder / "rank")]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *arguments],
        capture_output=True, text=True, timeout=300, env={**os.environ, **environment},
    )  # fmt: skip


def test_a_signal_to_one_process_stops_both_behind_one_step(
    synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """None waits for the other, and the checkpoint is that of the step behind which both stopped."""
    done = run_in_two(synthetic_dataset, tmp_path, STOPPED="1")
    assert done.returncode != 0 and "KeyboardInterrupt" in done.stderr
    state = read_state(tmp_path / "me.training" / "checkpoint.safetensors")
    assert state.step == 4 and not state.finished
    assert not (tmp_path / "me").exists()


def test_two_processes_train_one_avatar(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Gradients are averaged: both end in the same weights though they drew other rays; one writes."""
    done = run_in_two(synthetic_dataset, tmp_path)
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


def test_only_the_first_process_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others have validated nothing: their results must not take the place of the first one's."""
    assert distributed.reports()
    monkeypatch.setenv("RANK", "1")
    assert not distributed.reports()
