"""One training loop for every system: budget, schedule, validation, checkpoints, resumption."""

from __future__ import annotations

import copy
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.progress import Bar
from nldf_engine.base.signals import TERMINATING, handling
from nldf_engine.nn.grid import GridEncoding, grid_parameters
from nldf_engine.ops.products import products
from nldf_engine.rendering.layer import View, to_uint8
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.training import distributed
from nldf_engine.training.checkpoint import RunState, restore_run, save_run
from nldf_engine.training.graphs import StepGraphs, recordable
from nldf_engine.training.monitor import Monitor, draw_curves
from nldf_engine.training.objective import Objective, StepLoss
from nldf_engine.training.optimizer import TableAdam
from nldf_engine.training.recipe import Recipe
from nldf_engine.training.scene import Tensors
from nldf_engine.training.stages import Subject

CHECKPOINT_SECONDS = 120.0
BETAS = (0.9, 0.99)
# Steps between two reads of the training error for the progress bar: each synchronises with the device.
NOTED_STEPS = 20
# Signals that come so soon behind another one are the same one.
REPEATED_SECONDS = 2.0
# Several processes agree every so many steps on whether to stop, or to save a checkpoint.
AGREED_STEPS = 8


@dataclass(frozen=True)
class Budget:
    """When a run ends: after `steps`, or after `minutes` of training where that is given."""

    steps: int
    minutes: float | None = None

    def share(self, state: RunState) -> float:
        """The share of the budget that is used, in [0, 1]."""
        if self.minutes is not None:
            return min(1.0, state.seconds / (60 * self.minutes))
        return min(1.0, state.step / max(1, self.steps))


class Trainer:
    """Trains the portraits of one speaker or of several.

    Args:
        subjects: speakers and their portraits, which are trained and validated.
        objectives: the loss of each subject.
        recipe: learning rates, and the share of the final phase.
        budget: when to stop.
        state: a fresh run's state.
        folder: the run's folder: checkpoints with the best weights, events, curves.
        seed: of the sampling.
        graphs: on a GPU, replay steps as CUDA graphs where the objectives' steps are divided
            (`Objective.no_graph_reason`); standard error says why where they are not.
        matmul: how steps compute products of matrices on a GPU, one of `ops.products.PRODUCTS`.

    Once the losses have settled (`Objective.settled`), the best weights are chosen anew.

    In the final phase of the budget (`Recipe.final_share`; `closing` in the state) the validation split is
    trained on as well, and validation stops.

    `keep` maps step numbers to callbacks and may be filled before `run`. After its step a callback gets a
    copy of the portraits, with the best weights so far (in the final phase: the current ones), and the run's
    state.
    """

    def __init__(
        self, subjects: Sequence[Subject], objectives: Sequence[Objective], recipe: Recipe, budget: Budget,
        state: RunState, folder: Path, seed: int = 0, graphs: bool = True, matmul: str = "tf32",
    ) -> None:  # fmt: skip
        self.subjects, self.objectives = list(subjects), nn.ModuleList(objectives)
        self.recipe, self.budget, self.state, self.folder = recipe, budget, state, folder
        portraits = [subject.portrait for subject in subjects]
        self.network: nn.Module = portraits[0] if len(portraits) == 1 else nn.ModuleList(portraits)
        self.generator = torch.Generator().manual_seed(seed)
        self.matmul = matmul
        self._losses = distributed.averaged(_Losses(self.objectives))
        groups = parameter_groups(self.network, objectives, recipe)
        records = graphs and self._records()
        self.optimizer = TableAdam(groups, recipe.learning_rate, BETAS, on_device=records)
        self.graphs: StepGraphs | None = None
        if records:
            changed = [parameter for group in groups for parameter in group["params"]]
            self.graphs = StepGraphs(self._step_on, changed, self.optimizer.recording, self._device)
        self.best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.keep: dict[int, Callable[[list[Portrait], RunState], None]] = {}
        self._sums: dict[str, Tensor] = {}
        self._counted = 0

    @property
    def _device(self) -> torch.device:
        return self.subjects[0].scene.device

    def _records(self) -> bool:
        """Whether steps can be recorded; says on standard error why not, on a GPU."""
        if not recordable(self._device):
            return False
        problems = [problem for part in self._parts() if (problem := part.no_graph_reason())]
        if distributed.world() > 1:
            problems.insert(0, "several processes average their gradients")
        if problems:
            sys.stderr.write(f"steps are not replayed as CUDA graphs: {problems[0]}\n")
        return not problems

    @property
    def checkpoint(self) -> Path:
        """Path of the run's checkpoint."""
        return self.folder / "checkpoint.safetensors"

    @property
    def before_closing(self) -> Path:
        """Path of the checkpoint from right before the final phase, not yet trained on validation frames."""
        return self.folder / "before_closing.safetensors"

    def resume(self) -> None:
        """Restores the checkpoint.

        With a larger budget the final phase starts later: a run that was already in it continues from right
        before it.

        Raises:
            FileProblem: the file is damaged, belongs to another network, or lacks what the losses learned.
        """
        self._restore(self.checkpoint)
        if self.state.closing and not self._is_closing():
            self._restore(self.before_closing)
        distributed.wait()  # the first one may write it again before it takes a step

    def _restore(self, path: Path) -> None:
        self.state, extra = restore_run(path, self.network, self.optimizer, self.generator)
        if self.graphs is not None:
            self.graphs.forget()
        best = {name[5:]: value for name, value in extra.items() if name.startswith("best.")}
        self.best = best or self.best
        running = {name[8:]: value for name, value in extra.items() if name.startswith("running.")}
        self._sums = {name: value.to(self._device) for name, value in running.items() if name != "count"}
        self._counted = 0
        if "count" in running:
            self._counted = int(running["count"])
        for prefix, objective in self._named_objectives():
            start = len(prefix)
            own = {name[start:]: value for name, value in extra.items() if name.startswith(prefix)}
            if missing := set(objective.state()) - set(own):
                raise FileProblem(
                    path, f"what its losses learned is missing ({min(missing)!r})", "train without --resume"
                )
            if own:
                objective.restore(own)

    def save(self, path: Path | None = None) -> None:
        """Writes a checkpoint to `path`; None: to `checkpoint`. Of several processes all have to call it."""
        extra = {f"best.{name}": value for name, value in self.best.items()}
        for prefix, objective in self._named_objectives():
            extra |= {f"{prefix}{name}": value for name, value in objective.state().items()}
        extra |= {f"running.{name}": distributed.mean(value) for name, value in self._sums.items()}
        extra["running.count"] = torch.tensor(self._counted)
        parts = self.state, self.network, self.optimizer, extra, self.generator
        distributed.by_first(lambda: save_run(path or self.checkpoint, *parts))

    def _named_objectives(self) -> list[tuple[str, Objective]]:
        """The objectives, each after the prefix of its tensors in checkpoints."""
        several = len(self.objectives) > 1
        return [(f"pool.{i}." if several else "pool.", part) for i, part in enumerate(self._parts())]

    def _parts(self) -> list[Objective]:
        return [cast(Objective, objective) for objective in self.objectives]

    def _is_closing(self) -> bool:
        return self.budget.share(self.state) >= 1 - self.recipe.final_share > 0

    def _close(self, monitor: Monitor) -> None:
        """Starts the final phase: from here on the validation split is trained on too."""
        if not self.state.history or self.state.history[-1]["step"] != self.state.step:
            self._validate_and_log(monitor)
        self.save(self.before_closing)
        self.state.closing = True
        for subject, objective in zip(self.subjects, self._parts(), strict=True):
            subject.scene.final_phase()
            objective.begin(subject.scene.validation)
        self.save()

    def learning_rate(self) -> float:
        """The current learning rate: exponential decay from first to final over the budget."""
        return self.recipe.learning_rate * self.decay()

    def decay(self) -> float:
        """The factor on every parameter group's initial learning rate."""
        recipe = self.recipe
        return (recipe.final_learning_rate / recipe.learning_rate) ** self.budget.share(self.state)

    def step(self) -> Tensor:
        """One optimiser step; returns the mean squared error per ray, summed over channels, on the device,
        where the next step may overwrite it."""
        self.network.train()
        for group in self.optimizer.param_groups:
            self.optimizer.set_rate(group, group["first_lr"] * self.decay())
        number = 0
        if len(self.objectives) > 1:
            number = int(torch.randint(len(self.objectives), (), generator=self.generator))
        objective = cast(Objective, self.objectives[number])
        objective.share = self.budget.share(self.state)
        with products(self.matmul):
            if self.graphs is None:
                logged = self._stepped(*self._losses(number, self.generator))
            else:
                logged = self.graphs(number, objective.draw_inputs(self.generator))
        # Sums stay on the device until they are logged: reading one here would synchronise every step.
        known = [name for name in logged if name in self._sums]
        if known:
            torch._foreach_add_([self._sums[name] for name in known], [logged[name] for name in known])
        self._sums |= {name: value.clone() for name, value in logged.items() if name not in self._sums}
        self._counted += 1
        self.state.step += 1
        return logged["pixel"]

    def _step_on(self, number: int, inputs: Tensors) -> dict[str, Tensor]:
        loss = cast(Objective, self.objectives[number]).loss_of(inputs)
        return self._stepped(loss.total, loss.logged)

    def _stepped(self, total: Tensor, logged: dict[str, Tensor]) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        return logged

    @torch.no_grad()
    def validate(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Renders validation frames with the mouth driven by audio.

        Returns:
            (psnr, ground_truth, rendered): mean full-frame PSNR, dB; the first frame, uint8 [H, W, 3].
        """
        self.network.eval()
        scores, first = [], None
        for subject in self.subjects:
            validation = subject.scene.validation
            picks = torch.linspace(
                0, len(validation) - 1, min(self.recipe.validation.frames, len(validation))
            )
            for number in validation[picks.long()].unique().tolist():
                real, rendered = validation_frame(subject, number)
                error = (rendered.double() - real.double()).square().mean() / 255**2
                scores.append(psnr_of(float(error)))
                first = first or (real.numpy(), rendered.numpy())
        assert first is not None
        return float(np.mean(scores)), *first

    def _validate_and_log(self, monitor: Monitor) -> None:
        found = distributed.by_first(self.validate)
        if found is None:
            self._log(monitor, {})
            return
        psnr, real, rendered = found
        self._log(monitor, {"psnr": psnr})
        monitor.picture(self.state.step, real, rendered)
        if self.state.best_psnr is None or psnr > self.state.best_psnr:
            self.state.best_psnr = psnr
            self.best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _log(self, monitor: Monitor, row: dict[str, float]) -> None:
        """Adds the mean losses since the last row, and the progress, to `row`; appends it to the history."""
        means = {name: total / max(1, self._counted) for name, total in self._sums.items()}
        row |= {name: float(distributed.mean(value)) for name, value in means.items()}
        self._sums, self._counted = {}, 0
        row |= {"seconds": self.state.seconds, "step": self.state.step, "learning_rate": self.learning_rate()}
        self.state.history.append(row)
        monitor.scalars(self.state.step, row)

    def run(self, label: str) -> None:
        """Trains until the budget is used up.

        Afterwards the network has the weights with the best validation PSNR, or, after a final phase, the
        last ones. Ctrl-C, SIGTERM and SIGHUP take effect between two steps, so that the checkpoint is one
        that an uninterrupted run goes through too. Several processes stop after the same step, whichever of
        them the signal reached, and none ends before the checkpoint is written.

        Raises:
            KeyboardInterrupt, SystemExit: on SIGINT, SIGTERM and SIGHUP, once the checkpoint is written.
        """
        for subject in self.subjects:
            subject.scene.final_phase(self.state.closing)
        monitor = Monitor(self.folder, self.state.step, quiet=not distributed.is_first())
        try:
            with _StopSignals() as signals, Bar(label, self._total(), "step") as bar:
                bar.start_at(self.state.step)
                self._loop(bar, monitor, signals)
            self._agree(signals)
            self.state.finished = not signals.received
            self.save()
            distributed.wait()
        finally:
            monitor.close()
            distributed.by_first(lambda: draw_curves(self.folder / "curves.png", self.state.history, label))
        signals.obey()
        if not self.state.closing:
            self.network.load_state_dict(self.best)
        distributed.share_weights(self.network)

    def _stops(self, signals: _StopSignals) -> bool:
        """Whether to stop before the next step: of several processes all do, or none does."""
        if distributed.world() > 1:
            if self.state.step % AGREED_STEPS:
                return False
            self._agree(signals)
        return signals.received is not None

    def _is_due(self, saved: float) -> bool:
        """Whether a checkpoint is due by the first process' clock; of several all save it, or none."""
        late = time.monotonic() - saved > CHECKPOINT_SECONDS
        if distributed.world() == 1:
            return late
        if self.state.step % AGREED_STEPS:
            return False
        return distributed.shared(float(late), self._device) > 0

    def _agree(self, signals: _StopSignals) -> None:
        """A signal that one process received counts as received by all."""
        signals.received = distributed.largest(signals.received or 0, self._device) or None

    def _kept(self) -> list[Portrait]:
        """A copy of the portraits: the best weights so far; the current ones where there are none."""
        network = copy.deepcopy(self.network)
        if self.state.best_psnr is not None and not self.state.closing:
            network.load_state_dict(self.best)
        several = list(network) if isinstance(network, nn.ModuleList) else [network]
        return [cast(Portrait, portrait) for portrait in several]

    def _note(self, error: float) -> str:
        """The progress bar's note: PSNR of a squared error summed over channels; best validation PSNR."""
        note = f"{psnr_of(error / 3):.1f} dB"
        if self.state.best_psnr is not None:
            note += f", validation {self.state.best_psnr:.2f} dB"
        return note

    def _total(self) -> int | None:
        return None if self.budget.minutes else self.budget.steps

    def _loop(self, bar: Bar, monitor: Monitor, signals: _StopSignals) -> None:
        times = self.recipe.validation.times
        done, note = int(self.budget.share(self.state) * times), ""
        settled = max(objective.settled for objective in self._parts())
        saved = time.monotonic()
        error: Tensor | None = None
        while (share := self.budget.share(self.state)) < 1 and not self._stops(signals):
            if self._is_closing() and not self.state.closing:
                self._close(monitor)
            began = time.monotonic()
            pixel = self.step()
            error = pixel.clone() if error is None else error.lerp(pixel, 0.02)
            self.state.seconds += time.monotonic() - began
            if self.budget.minutes is not None:  # processes must agree on when a time budget is used up
                self.state.seconds = distributed.shared(self.state.seconds, pixel.device)
            if self.state.step % NOTED_STEPS == 1:
                note = self._note(float(error))
            bar.step(note=note, fraction=share if self.budget.minutes else None)
            before, share = share, self.budget.share(self.state)
            if int(share * times) > done or share >= 1:
                done = int(share * times)
                if self.state.closing:
                    self._log(monitor, {})
                else:
                    self._validate_and_log(monitor)
            # After the validation of this very step, whose weights have not yet seen the settled loss. From
            # the final phase on nothing is validated, so that what was found last stands.
            if before < settled <= share < 1 and not self._is_closing():
                self.state.best_psnr = None
            if self.state.step in self.keep:
                self.keep[self.state.step](self._kept(), self.state)
            if self._is_due(saved):
                self.save()
                saved = time.monotonic()


class _Losses(nn.Module):
    """All objectives behind one `forward`, as DistributedDataParallel requires."""

    def __init__(self, objectives: nn.ModuleList) -> None:
        super().__init__()
        self.objectives = objectives

    def forward(self, number: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of objective `number`, and what is logged of it."""
        loss: StepLoss = self.objectives[number](generator)
        return loss.total, loss.logged


@torch.no_grad()
def validation_frame(subject: Subject, number: int) -> tuple[Tensor, Tensor]:
    """Frame `number`, ground truth and rendered as by an avatar: uint8 [H, W, 3], on the CPU."""
    scene, portrait = subject.scene, subject.portrait
    index = torch.tensor([number], device=scene.device)
    pose = scene.poses[number].to(scene.device)
    if scene.torso_tracked:  # validation frames are rendered with the tracked torso motion
        motion = scene.motions[number].to(scene.device)
    else:
        motion = portrait.torso.predict_motion(pose[None])[0]
    code = portrait.head.encode_frames(scene.audio_only, index)[0]
    layer = portrait.layer(View(scene.camera, pose, motion), code)
    rendered = to_uint8(layer.over(scene.backdrop(number).to(scene.device))).cpu()
    return scene.frames[number], rendered


def parameter_groups(
    portrait: nn.Module, objectives: Iterable[Objective], recipe: Recipe
) -> list[dict[str, Any]]:
    """Adam's parameter groups: networks with the objectives' parameters; feature grids (see `nn.grid`)."""
    grids: list[dict[str, Any]] = []
    if any(isinstance(part, GridEncoding) for part in portrait.modules()):
        grids = [grid_parameters(portrait, recipe.grid_rate)]
        grids[0]["params"] = [table for table in grids[0]["params"] if table.requires_grad]
    known = {id(table) for group in grids for table in group["params"]}
    rest = [p for p in portrait.parameters() if p.requires_grad and id(p) not in known]
    groups = [
        {
            "params": rest + [p for objective in objectives for p in objective.added()],
            "lr": recipe.learning_rate,
        },
        *grids,
    ]
    return [{**group, "first_lr": group["lr"]} for group in groups]


def psnr_of(error: float) -> float:
    """PSNR in dB of a mean squared error of colours in [0, 1]; at most 100."""
    return -10 * math.log10(max(error, 1e-10))


class _StopSignals:
    """Defers SIGINT, SIGTERM and SIGHUP to the end of a step.

    A second signal takes effect immediately, since a step can be long; but not one that comes right behind
    the first: a terminal's Ctrl-C reaches torchrun too, which hands it on.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._since = 0.0

    def __enter__(self) -> _StopSignals:
        self._handled = handling((signal.SIGINT, *TERMINATING), self._note)
        self._handled.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._handled.__exit__(*error)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is not None and now - self._since > REPEATED_SECONDS:
            self.obey()
        if self.received is None:
            self.received, self._since = number, now

    def obey(self) -> None:
        """Raises the exception of the received signal; does nothing if there was none."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is not None:
            raise SystemExit(128 + self.received)
