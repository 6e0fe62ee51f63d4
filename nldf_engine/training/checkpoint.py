"""A run's state in one safetensors file: weights, optimiser, random state, history. Nothing is pickled."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_path


@dataclass
class RunState:
    """Where a run is.

    Args:
        settings: everything that the run's curve depends on; a resumed run must have the same.
        step: optimiser steps done.
        seconds: time spent training, over all sittings.
        best_psnr: the best validation PSNR so far, dB; None before the first.
        history: rows of step, seconds, the losses' means since the last row, and psnr of a validation.
        finished: whether the budget is used up.
        closing: whether the validation split is trained on by now.
    """

    settings: dict[str, Any]
    step: int = 0
    seconds: float = 0.0
    best_psnr: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    finished: bool = False
    closing: bool = False


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _taken(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = len(prefix) + 1
    return {name[start:]: value for name, value in tensors.items() if name.startswith(prefix + ".")}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def save_run(
    path: Path,
    state: RunState,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: dict[str, Tensor],
    generator: torch.Generator,
) -> None:
    """Writes the run's state to `path`, whole or not at all; `generator` draws its samples."""
    tensors = _prefixed("network", network.state_dict())
    tensors |= _prefixed("optimizer", _optimizer_tensors(optimizer))
    tensors |= _prefixed("objective", extra)
    tensors["random.cpu"] = generator.get_state()
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"run": json.dumps(state.__dict__)})


def read_state(path: Path) -> RunState:
    """The part of a run's state that is no tensor.

    Raises:
        FileProblem: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as stream:
            return RunState(**json.loads((stream.metadata() or {})["run"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise FileProblem(
            path, f"it is no readable checkpoint ({error})", "train without --resume"
        ) from error


def restore_run(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> tuple[RunState, dict[str, Tensor]]:
    """Brings network, optimiser and random state back to where `path` was saved.

    Returns:
        the run's state, and the objective's own tensors.

    Raises:
        FileProblem: the file is damaged or belongs to another network.
    """
    state = read_state(path)
    with safe_open(path, "pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    try:
        network.load_state_dict(_taken("network", tensors))
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in _taken("optimizer", tensors).items():
            index, key = name.split(".", 1)
            entries.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
        generator.set_state(tensors["random.cpu"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise FileProblem(
            path, f"it belongs to another network ({error})", "train without --resume"
        ) from error
    return state, _taken("objective", tensors)
