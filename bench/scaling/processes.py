"""One run by one and by two processes: the same curve, stopped, resumed and killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.scaling.options import Options
from nldf_engine.base.errors import NldfError
from nldf_engine.base.files import atomic_path, make_folder, read_json
from nldf_engine.base.progress import track
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.training.checkpoint import read_state

LAUNCH = ("torch.distributed.run", "--standalone", "--nproc-per-node")
# A point of the curve every few steps; the speech's networks are no part of what is compared.
SETTINGS = ("--set", "validation.times=24", "--set", "validation.frames=1", "--set", "speech_steps=3",
            "--set", "adapt_steps=3")  # fmt: skip


class Runs:
    """Runs of one preset on one speaker.

    Args:
        folder: of the speaker and of what is trained.
        options: preset and steps.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.options = folder, options

    def run(self, name: str, world: int, stop: Sequence[str] = (), resume: bool = False) -> tuple[int, str]:
        """Trains with so many processes; returns exit code and what was printed.

        Args:
            name: of the avatar.
            world: processes.
            stop: (SIGNAL, STEP, RANK) of a signal that comes on the way.
            resume: continue.
        """
        program = ["bench.scaling.stopped", *stop] if stop else ["nldf_engine"]
        module = [*LAUNCH, str(world), "-m", *program] if world > 1 else program
        out = self.folder / name
        given = ["train", self.options.preset, str(self.folder / "speaker"), "-o", str(out), "--steps",
                 str(self.options.steps), *SETTINGS, "--json", str(out.with_suffix(".json"))]  # fmt: skip
        command = [sys.executable, "-m", *module, *given, *(["--resume"] if resume else [])]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stderr

    def steps(self, name: str) -> int:
        """How far an unfinished run has come."""
        return read_state(self.folder / f"{name}.training" / "checkpoint.safetensors").step

    def curve(self, name: str) -> np.ndarray:
        """[N, 3]: step, mean squared error a ray, validation PSNR (NaN without)."""
        rows = read_json((self.folder / name).with_suffix(".json"))["history"]
        return np.array([[row["step"], row["pixel"], row.get("psnr", np.nan)] for row in rows])


def processes(options: Options) -> dict[str, Any]:
    """one run by one and two processes: curves, resumption with another number, a killed process."""
    folder = make_folder(options.folder)
    if not (folder / "speaker").is_dir():
        make_synthetic_dataset(folder / "speaker", SyntheticConfig(6.0, 64, 1, audio_frontend="mel"))
    runs, third = Runs(folder, options), options.steps // 3
    found: dict[str, Any] = {}
    parts = [
        ("one", [(1, (), False)]),
        ("two", [(2, (), False)]),
        ("two, one, two", [
            (2, ("SIGINT", str(third), "1"), False), (1, ("SIGINT", str(2 * third), "0"), True), (2, (), True)
        ]),
        ("killed", [(2, ("SIGKILL", str(third), "1"), False), (2, (), True)]),
    ]  # fmt: skip
    curves: dict[str, np.ndarray] = {}
    for name, sittings in track(parts, "runs", unit="run"):
        short = name.replace(", ", "-")
        for number, (world, stop, resume) in enumerate(sittings):
            began = time.monotonic()
            code, said = runs.run(short, world, stop, resume)
            row = {"processes": world, "exit": code, "seconds": round(time.monotonic() - began, 1)}
            if stop:
                messages = [line for line in said.splitlines() if line.startswith("nldf train")]
                row |= {"signal": " ".join(stop), "said": " | ".join(messages)}
                if stop[0] != "SIGKILL":
                    row["stopped_behind_step"] = runs.steps(short)
            elif code:
                raise NldfError(f"the run {name!r} has failed: {said[-1000:]}")
            found[f"{name}, sitting {number + 1}"] = row
        curves[name] = runs.curve(short)
    for name, curve in curves.items():
        found[f"{name}: against one process"] = difference(curves["one"], curve)
    draw(options.picture or folder / "curves.png", curves, options)
    return found


def difference(ours: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """The largest relative difference of the loss, and the largest of the PSNR in dB, over two curves."""
    loss = np.abs(other[:, 1] / ours[:, 1] - 1).max()
    return {"loss_relative": float(loss), "psnr_db": float(np.nanmax(np.abs(other[:, 2] - ours[:, 2])))}


def draw(path: Path, curves: dict[str, np.ndarray], options: Options) -> None:
    """The curves over each other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    widths = np.linspace(7, 1.2, len(curves))
    for (name, curve), width in zip(curves.items(), widths, strict=True):
        label = {"one": "1 process", "two": "2 processes", "two, one, two": "2, then 1, then 2 processes",
                 "killed": "2 processes, one killed, resumed"}[name]  # fmt: skip
        left.plot(curve[:, 0], curve[:, 1], lw=width, label=label, alpha=0.8)
        shown = curve[np.isfinite(curve[:, 2])]
        right.plot(shown[:, 0], shown[:, 2], lw=width, alpha=0.8)
    left.set(xlabel="step", ylabel="squared error a ray", yscale="log", title=options.preset)
    right.set(xlabel="step", ylabel="validation PSNR, dB", title="a synthetic speaker, 64 x 64")
    left.legend(frameon=False, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
