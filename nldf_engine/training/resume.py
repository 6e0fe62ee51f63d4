"""What a run's folder holds of an earlier sitting, and whether a run may continue from it."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import make_folder
from nldf_engine.training.checkpoint import read_state
from nldf_engine.training.recipe import Recipe, settings_of
from nldf_engine.training.stages import Stage


def targets_key(settings: dict[str, Any]) -> str:
    """Names what a teacher's targets depend on, so that those of another run are never taken."""
    # A teacher answers under the codes that its student takes.
    codes = [settings["recipe"]["driving"][name] for name in ("motion_codes", "upper_codes")]
    on = [settings["teacher"], settings["dataset"], settings["recipe"]["size"], *codes]
    return hashlib.sha256(json.dumps(on).encode()).hexdigest()[:16]


def differences(now: dict[str, Any], then: dict[str, Any], prefix: str = "") -> list[str]:
    """`name: then -> now` of all settings that differ."""
    out = []
    for key in sorted({*now, *then}):
        a, b = now.get(key), then.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            out += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            out.append(f"{prefix}{key}: {b} -> {a}")
    return out


def budgets(recipe: Recipe) -> list[str]:
    """Paths in a recipe of the numbers of optimiser steps of its stages."""
    return [path for path, _ in settings_of(type(recipe)) if path.rpartition(".")[2] == "steps"]


def at(tree: dict[str, Any], path: str) -> Any:
    """The setting of a recipe, as dictionaries, at a path; None where it has none."""
    value: Any = tree
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def extends(now: dict[str, Any], then: dict[str, Any], paths: list[str]) -> bool:
    """Whether the settings `now` are those of `then` with a larger budget, of the same kind.

    Args:
        now, then: of two runs.
        paths: of the budgets in their recipes.
    """
    steps = [(at(now["recipe"], path), at(then["recipe"], path)) for path in paths]
    longer = copy.deepcopy({**then, "minutes": now["minutes"]})
    for path, (value, _) in zip(paths, steps, strict=True):
        *groups, last = path.split(".")
        inside = longer["recipe"]
        for group in groups:
            inside = inside.get(group, {})
        inside[last] = value
    if longer != now or (now["minutes"] is None) != (then["minutes"] is None):
        return False
    if now["minutes"] is not None:
        return bool(now["minutes"] > then["minutes"])
    more = [a - b for a, b in steps]
    return min(more) >= 0 and max(more) > 0


def checkpoint_of(folder: Path, stage: Stage) -> Path:
    """The state of a stage."""
    return folder / stage.folder / "checkpoint.safetensors"


def find_run(
    folder: Path, stages: Sequence[Stage], settings: dict[str, Any], recipe: Recipe, resume: bool
) -> list[str]:
    """The stages whose checkpoints are continued; looks only, so that a refused run leaves nothing.

    Args:
        folder: of the run.
        stages: that are trained, in turn.
        settings, recipe: of the run.
        resume: whether to continue.

    Raises:
        FileProblem: an unfinished run that is not resumed, or one of other settings.
    """
    begun = [stage for stage in stages if checkpoint_of(folder, stage).is_file()]
    if not begun:
        if resume:
            sys.stderr.write(f"{folder} holds no checkpoint yet: the run begins at its first step\n")
        return []
    states = [read_state(checkpoint_of(folder, stage)) for stage in begun]
    state = states[0]
    if not resume:
        planned = state.settings.get("phases", [begun[0].name])
        avatar = folder.with_name(folder.name.removesuffix(".training")) / "avatar.json"
        if not states[-1].finished or begun[-1].name != planned[-1] or not avatar.is_file():
            raise FileProblem(
                folder, f"it holds an unfinished run ({sum(part.step for part in states)} steps)",
                "continue with --resume, or delete the folder",
            )  # fmt: skip
        return []
    if state.settings != settings and not extends(settings, state.settings, budgets(recipe)):
        differs = "; ".join(differences(settings, state.settings))
        raise FileProblem(
            folder, f"its run had other settings ({differs})",
            "give the same settings again (the budget may grow), or train without --resume into another "
            "folder",
        )  # fmt: skip
    if state.settings != settings:
        larger = "; ".join(differences(settings, state.settings))
        sys.stderr.write(
            f"{folder}: the run continues with a larger budget ({larger}): the learning rate rises to where "
            "the longer schedule has it at this point, and falls from there\n"
        )
    # About which earlier stages a stage was trained: its own settings say so, whatever became of them since.
    about = states[-1].settings
    for place, stage in enumerate(begun[:-1]):
        grown = at(settings["recipe"], stage.budget) != at(about["recipe"], stage.budget)
        if grown or settings["minutes"] != about["minutes"]:
            sys.stderr.write(
                f"{folder}: the {stage.name} continues, so the {begun[place + 1].name} begins again\n"
            )
            return [each.name for each in begun[: place + 1]]
    return [stage.name for stage in begun]


def open_run(folder: Path, stages: Sequence[Stage], resuming: Sequence[str]) -> None:
    """Makes the run's folder; of a finished run that is not continued, nothing is kept."""
    if not resuming and any(checkpoint_of(folder, stage).is_file() for stage in stages):
        shutil.rmtree(folder)
    make_folder(folder)
