"""Two processes on one run: the curve of one, another number of them on resumption, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nldf_engine.avatar import Avatar
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.training import TrainConfig, distributed, train
from nldf_engine.training.checkpoint import read_state

PROGRAM = """
import json, os, signal, sys
import torch
from nldf_engine.apps.cli.main import guarded
from nldf_engine.training import TrainConfig, run, trainer

data, avatar, out, settings = sys.argv[1:]
settings = json.loads(settings)
original = trainer.Trainer.run

def running(self, label):
    original(self, label)
    weights = torch.cat([value.double().flatten() for value in self.network.state_dict().values()])
    with open(f"{out}-{os.environ['RANK']}.json", "w") as stream:
        json.dump({"weights": float(weights.sum()), "steps": self.state.step}, stream)

def disturbed(self):
    if self.state.step == 3 and os.environ["RANK"] == os.environ.get("DISTURBED"):
        os.kill(os.getpid(), signal.Signals[os.environ["BY"]])
    return step(self)

def train():
    run.train("nldf-tiny", data, avatar, TrainConfig(**settings))
    return 0

step = trainer.Trainer.step
trainer.Trainer.run, trainer.Trainer.step = running, disturbed
trainer.AGREED_STEPS = 2
sys.exit(guarded("train", train, lambda: "stopped here"))
"""
# With an active pool, whose rays come from both processes; its loss must not depend on their number either.
OVERRIDES = {"speech_steps": "3", "torso": "plate", "rays": "128", "validation.times": "8"}
SETTINGS: dict[str, Any] = {"steps": 8, "overrides": OVERRIDES}
# Sums in another order; a wrong share of the rays, or a pool of one process, is off by percents.
ROUNDING = 2e-3


def run_in_two(
    data: Dataset, folder: Path, settings: dict[str, Any] = SETTINGS, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the program in two processes."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(program), str(data.path), str(folder / "me"), str(folder / "rank"), json.dumps(settings)]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *arguments],
        capture_output=True, text=True, timeout=300, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """The history of an undisturbed run of one process."""
    return train("nldf-tiny", synthetic_dataset.path, tmp_path_factory.mktemp("alone") / "me",
                 TrainConfig(**SETTINGS)).history  # fmt: skip


def assert_same_curve(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    """The same losses and validation at the same steps, but for rounding."""
    assert [row["step"] for row in one] == [row["step"] for row in other] and len(one) >= 4
    for ours, theirs in zip(one, other, strict=True):
        for name in ("pixel", "pool", "opacity"):
            if name in ours:
                assert theirs[name] == pytest.approx(ours[name], rel=ROUNDING), (ours["step"], name)
        if "psnr" in ours:
            assert theirs["psnr"] == pytest.approx(ours["psnr"], abs=0.02)


def test_two_processes_have_the_curve_of_one(
    synthetic_dataset: Dataset, tmp_path: Path, alone: list[dict[str, float]]
) -> None:
    """Each has half of every step's rays: losses, validation and weights are those of all of them."""
    done = run_in_two(synthetic_dataset, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank-{n}.json").read_text()) for n in (0, 1))
    assert first == second and first["steps"] == 8
    assert Avatar.load(tmp_path / "me").provenance["steps"] == 8
    history = json.loads((tmp_path / "me.training" / "history.json").read_text())
    assert any("pool" in row for row in history)
    assert_same_curve(alone, history)
    assert done.stderr.count("8 steps") <= 1  # the second process shows no progress of its own


def test_a_signal_to_one_process_stops_both_and_one_continues(
    synthetic_dataset: Dataset, tmp_path: Path, alone: list[dict[str, float]]
) -> None:
    """Both stop behind the same step; one process continues from there, along the undisturbed curve."""
    done = run_in_two(synthetic_dataset, tmp_path, DISTURBED="1", BY="SIGINT")
    assert done.returncode != 0 and "train: stopped; stopped here" in done.stderr
    state = read_state(tmp_path / "me.training" / "checkpoint.safetensors")
    assert state.step == 4 and not state.finished
    assert not (tmp_path / "me").exists()
    resumed = train(
        "nldf-tiny", synthetic_dataset.path, tmp_path / "me", TrainConfig(**SETTINGS, resume=True)
    )
    assert_same_curve(alone, resumed.history)


def test_a_killed_process_ends_the_other_with_a_message(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """The one that is left does not wait for it: it says what happened and how to go on."""
    done = run_in_two(synthetic_dataset, tmp_path, DISTURBED="1", BY="SIGKILL")
    assert done.returncode != 0 and not (tmp_path / "me").exists()
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("train: ")]
    stopped = said == "train: stopped; stopped here"  # torchrun's signal may come first
    assert stopped or ("process 1 of 2" in said and "another process of this run has ended" in said), said


def test_a_failure_says_in_which_process(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """What both refuse is refused by both, each with its number."""
    done = run_in_two(synthetic_dataset, tmp_path, {**SETTINGS, "teacher": str(tmp_path / "nobody")})
    said = [line for line in done.stderr.splitlines() if line.startswith("train: process ")]
    assert done.returncode != 0 and said and "of 2 (" in said[0]


def test_one_process_is_the_first() -> None:
    """Without torchrun there is one process, which has everything and waits for nobody."""
    values = torch.arange(6).view(2, 3)
    assert distributed.world() == 1 and distributed.is_first() and distributed.rounded(7) == 7
    assert distributed.share(values, 1) is values and distributed.whole(values, 1) is values
    assert distributed.mean(values.float()).equal(values.float())
    assert distributed.by_first(lambda: 5) == distributed.first_before_others(lambda: 5) == 5
    distributed.check_same("anything", "value")


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_shares_are_the_whole(monkeypatch: pytest.MonkeyPatch, dim: int) -> None:
    """Every value is in one share, and a number that can't be divided is refused with the setting's name."""
    values, shares = torch.arange(6**3).view(6, 6, 6), []
    monkeypatch.setattr(distributed, "world", lambda: 3)
    for number in range(3):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        shares.append(distributed.share(values, dim))
    assert torch.stack(shares, dim + 1).flatten(dim, dim + 1).equal(values)
    assert distributed.rounded(7) == 9
    with pytest.raises(ValueError, match=r"sampling.frames: expected a multiple of the 3 processes, got 4"):
        distributed.share(values[:4], what="sampling.frames")


def test_only_the_first_process_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others have validated nothing: their results must not take the place of the first one's."""
    assert distributed.reports()
    monkeypatch.setenv("RANK", "1")
    assert not distributed.reports()
