"""One training loop for every system: budget, schedule, validation, checkpoints, resumption."""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nldf_engine.base.progress import Bar
from nldf_engine.nn.grid import GridEncoding, grid_parameters
from nldf_engine.rendering.layer import to_uint8
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.training.checkpoint import RunState, restore_run, save_run
from nldf_engine.training.monitor import Monitor, draw_curves
from nldf_engine.training.objectives import Objective
from nldf_engine.training.optimizer import TableAdam
from nldf_engine.training.presets import Recipe
from nldf_engine.training.scene import TrainingScene

CHECKPOINT_SECONDS = 120.0
VALIDATIONS = 20
VALIDATION_FRAMES = 8
BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class Budget:
    """When a run ends: after `steps`, or after `minutes` of training where that is given."""

    steps: int
    minutes: float | None = None

    def share(self, state: RunState) -> float:
        """How much of the budget is used, in [0, 1]."""
        if self.minutes is not None:
            return min(1.0, state.seconds / (60 * self.minutes))
        return min(1.0, state.step / max(1, self.steps))


class Trainer:
    """Trains a portrait's field.

    Args:
        portrait: what is trained and validated.
        scene: the training video.
        objective: the loss.
        recipe: learning rates.
        budget: when to stop.
        state: a fresh run's state.
        folder: the run's folder: checkpoint, best weights, events, curves.

    `keep` may be filled before `run`: behind these steps the functions get a copy of the portrait, with the
    best weights so far, and the run's state.
    """

    def __init__(
        self, portrait: Portrait, scene: TrainingScene, objective: Objective, recipe: Recipe, budget: Budget,
        state: RunState, folder: Path,
    ) -> None:  # fmt: skip
        self.portrait, self.scene, self.objective = portrait, scene, objective
        self.recipe, self.budget, self.state, self.folder = recipe, budget, state, folder
        self.network: nn.Module = portrait
        groups = parameter_groups(portrait, objective, recipe)
        self.optimizer = TableAdam(groups, recipe.learning_rate, BETAS)
        self.best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.keep: dict[int, Callable[[Portrait, RunState], None]] = {}
        self._sums: dict[str, Tensor] = {}
        self._counted = 0

    @property
    def checkpoint(self) -> Path:
        """The run's state."""
        return self.folder / "checkpoint.safetensors"

    @property
    def before_closing(self) -> Path:
        """The state of a closing run when it last knew frames that it was not trained on."""
        return self.folder / "before_closing.safetensors"

    def resume(self) -> None:
        """Goes back to where the checkpoint was written.

        A larger budget closes later: a run that was closing then goes on from before.
        """
        self._restore(self.checkpoint)
        if self.state.closing and not self._is_closing():
            self._restore(self.before_closing)

    def _restore(self, path: Path) -> None:
        self.state, extra = restore_run(path, self.network, self.optimizer)
        best = {name[5:]: value for name, value in extra.items() if name.startswith("best.")}
        self.best = best or self.best
        running = {name[8:]: value for name, value in extra.items() if name.startswith("running.")}
        self._sums, self._counted = {k: v for k, v in running.items() if k != "count"}, 0
        if "count" in running:
            self._counted = int(running["count"])
        objective = {name[5:]: value for name, value in extra.items() if name.startswith("pool.")}
        if objective:
            self.objective.restore(objective)

    def save(self, path: Path | None = None) -> None:
        """Writes the run's state, to `path` or the checkpoint."""
        extra = {f"best.{name}": value for name, value in self.best.items()}
        extra |= {f"pool.{name}": value for name, value in self.objective.state().items()}
        extra |= {f"running.{name}": value for name, value in self._sums.items()}
        extra["running.count"] = torch.tensor(self._counted)
        save_run(path or self.checkpoint, self.state, self.network, self.optimizer, extra)

    def _is_closing(self) -> bool:
        return self.budget.share(self.state) >= 1 - self.recipe.closing_share > 0

    def _close(self, monitor: Monitor) -> None:
        """From here on the validation cut is trained on as well, and says nothing any more."""
        if not self.state.history or self.state.history[-1]["step"] != self.state.step:
            self._validate_and_log(monitor)
        self.save(self.before_closing)
        self.state.closing = True
        self.scene.close()
        self.objective.begin(self.scene.validation)
        self.save()

    def learning_rate(self) -> float:
        """Exponential decay from first to last over the budget."""
        return self.recipe.learning_rate * self.decay()

    def decay(self) -> float:
        """What is left of every group's first learning rate."""
        recipe = self.recipe
        return (recipe.final_learning_rate / recipe.learning_rate) ** self.budget.share(self.state)

    def step(self) -> float:
        """One optimiser step; returns the squared error a pixel."""
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["first_lr"] * self.decay()
        loss = self.objective.step()
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self.optimizer.step()
        for name, value in loss.figures.items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + value.cpu()
        self._counted += 1
        self.state.step += 1
        return float(loss.figures["pixel"])

    @torch.no_grad()
    def validate(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Mean full-frame PSNR of validation frames, driven by audio; the first one, real and rendered."""
        self.network.eval()
        scene = self.scene
        picks = torch.linspace(0, len(scene.validation) - 1, min(VALIDATION_FRAMES, len(scene.validation)))
        figures, first = [], None
        for number in scene.validation[picks.long()].unique().tolist():
            index = torch.tensor([number], device=scene.device)
            pose = scene.poses[number].to(scene.device)
            layer = self.portrait.layer(
                scene.camera, pose, self.portrait.field.encode_frames(scene.heard, index)[0],
                self._torso_motion(number, pose),
            )  # fmt: skip
            rendered = to_uint8(layer.over(scene.backdrop(number).to(scene.device))).cpu()
            real = scene.frames[number]
            error = (rendered.double() - real.double()).square().mean() / 255**2
            figures.append(psnr_of(float(error)))
            first = first or (real.numpy(), rendered.numpy())
        assert first is not None
        return float(np.mean(figures)), *first

    def _torso_motion(self, number: int, pose: Tensor) -> Tensor:
        """[2, 3]: tracked, as part of what drives a validation frame, or predicted where that is missing."""
        if self.scene.torso_tracked:
            return self.scene.motions[number].to(self.scene.device)
        return self.portrait.torso.predict_motion(pose[None])[0]

    def _validate_and_log(self, monitor: Monitor) -> None:
        psnr, real, rendered = self.validate()
        self._log(monitor, {"psnr": psnr})
        monitor.picture(self.state.step, real, rendered)
        if self.state.best_psnr is None or psnr > self.state.best_psnr:
            self.state.best_psnr = psnr
            self.best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _log(self, monitor: Monitor, row: dict[str, float]) -> None:
        """Adds to `row` the losses since the last one, and where the run is, and keeps it."""
        row |= {name: float(total / max(1, self._counted)) for name, total in self._sums.items()}
        self._sums, self._counted = {}, 0
        row |= {"seconds": self.state.seconds, "step": self.state.step, "learning_rate": self.learning_rate()}
        self.state.history.append(row)
        monitor.scalars(self.state.step, row)

    def run(self, label: str) -> None:
        """Trains until the budget is used up.

        Ctrl-C and SIGTERM take effect between two steps, so that the checkpoint they leave is one that an
        undisturbed run went through too.

        Raises:
            KeyboardInterrupt, SystemExit: it was asked to stop; the checkpoint is written.
        """
        self.scene.close(self.state.closing)
        monitor = Monitor(self.folder, self.state.step)
        try:
            with _StopSignals() as signals, Bar(label, self._total(), "step") as bar:
                bar.start_at(self.state.step)
                self._loop(bar, monitor, signals)
            self.state.finished = not signals.asked
            self.save()
        finally:
            monitor.close()
            draw_curves(self.folder / "curves.png", self.state.history, label)
        signals.obey()
        if not self.state.closing:
            self.network.load_state_dict(self.best)

    def _kept(self) -> Portrait:
        """A copy of the portrait with the best weights so far; those of now where none are chosen."""
        portrait = copy.deepcopy(self.portrait)
        if self.state.best_psnr is not None and not self.state.closing:
            portrait.load_state_dict(self.best)
        return portrait

    def _total(self) -> int | None:
        return None if self.budget.minutes else self.budget.steps

    def _loop(self, bar: Bar, monitor: Monitor, signals: _StopSignals) -> None:
        done = int(self.budget.share(self.state) * VALIDATIONS)
        saved = time.monotonic()
        error = 0.0
        while (share := self.budget.share(self.state)) < 1 and not signals.asked:
            if self._is_closing() and not self.state.closing:
                self._close(monitor)
            began = time.monotonic()
            pixel = self.step()
            error = 0.98 * error + 0.02 * pixel if error else pixel
            self.state.seconds += time.monotonic() - began
            note = f"{psnr_of(error / 3):.1f} dB"
            if self.state.best_psnr is not None:
                note += f", validation {self.state.best_psnr:.2f} dB"
            bar.step(note=note, fraction=share if self.budget.minutes else None)
            share = self.budget.share(self.state)
            if int(share * VALIDATIONS) > done or share >= 1:
                done = int(share * VALIDATIONS)
                if self.state.closing:
                    self._log(monitor, {})
                else:
                    self._validate_and_log(monitor)
            if self.state.step in self.keep:
                self.keep[self.state.step](self._kept(), self.state)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()


def parameter_groups(portrait: nn.Module, objective: Objective, recipe: Recipe) -> list[dict[str, Any]]:
    """The optimiser's groups: networks, feature grids (`nn.grid` says how), and what the objective brings."""
    grids: list[dict[str, Any]] = []
    if any(isinstance(part, GridEncoding) for part in portrait.modules()):
        grids = [grid_parameters(portrait, recipe.grid_learning_rate)]
        grids[0]["params"] = [table for table in grids[0]["params"] if table.requires_grad]
    known = {id(table) for group in grids for table in group["params"]}
    rest = [p for p in portrait.parameters() if p.requires_grad and id(p) not in known]
    groups = [{"params": rest + objective.parameters(), "lr": recipe.learning_rate}, *grids]
    return [{**group, "first_lr": group["lr"]} for group in groups]


def psnr_of(error: float) -> float:
    """Decibels of a mean squared error of colours in [0, 1]; 100 at the most."""
    return -10 * math.log10(max(error, 1e-10))


class _StopSignals:
    """Notes SIGINT and SIGTERM while it is entered, instead of letting them strike anywhere.

    A second signal strikes at once: a step can be long, and a person may be in a hurry.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            self.obey()
        self.asked = number

    def obey(self) -> None:
        """Stops as the signal that came asks to; does nothing where none came."""
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self.asked is not None:
            raise SystemExit(128 + self.asked)
