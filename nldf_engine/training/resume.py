"""What a run's folder holds of an earlier sitting, and whether a run may go on from it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import make_folder
from nldf_engine.training.checkpoint import read_state

STEPS = ("steps", "torso_steps")


def targets_key(settings: dict[str, Any]) -> str:
    """Names what a teacher's targets depend on, so that those of another run are never taken."""
    # A teacher answers under the codes that its student is told.
    codes = [settings["recipe"][name] for name in ("motion_codes", "upper_codes")]
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


def extends(now: dict[str, Any], then: dict[str, Any]) -> bool:
    """Whether the settings `now` are those of `then` with a larger budget, of the same kind."""
    budget = {name: now["recipe"][name] for name in STEPS}
    longer = {**then, "minutes": now["minutes"], "recipe": {**then["recipe"], **budget}}
    if longer != now or (now["minutes"] is None) != (then["minutes"] is None):
        return False
    if now["minutes"] is not None:
        return bool(now["minutes"] > then["minutes"])
    more = [now["recipe"][name] - then["recipe"][name] for name in STEPS]
    return min(more) >= 0 and max(more) > 0


def checkpoint_of(folder: Path, phase: str) -> Path:
    """The state of the head's run, or of the torso's."""
    return (folder if phase == "head" else folder / phase) / "checkpoint.safetensors"


def find_run(folder: Path, settings: dict[str, Any], resume: bool) -> list[str]:
    """The phases that there is a state of to go on from; looks only, so that a refused run leaves nothing."""
    begun = [phase for phase in ("head", "torso") if checkpoint_of(folder, phase).is_file()]
    if not begun:
        if resume:
            sys.stderr.write(f"{folder} holds no checkpoint yet: the run begins at its first step\n")
        return []
    states = [read_state(checkpoint_of(folder, phase)) for phase in begun]
    state = states[0]
    if not resume:
        planned = state.settings.get("phases", ["head"])
        avatar = folder.with_name(folder.name.removesuffix(".training")) / "avatar.json"
        if not states[-1].finished or begun[-1] != planned[-1] or not avatar.is_file():
            raise FileProblem(
                folder, f"it holds an unfinished run ({sum(part.step for part in states)} steps)",
                "go on with --resume, or delete the folder",
            )  # fmt: skip
        return []
    if state.settings != settings and not extends(settings, state.settings):
        differs = "; ".join(differences(settings, state.settings))
        raise FileProblem(
            folder, f"its run had other settings ({differs})",
            "give the same settings again (the budget may grow), or train without --resume into another "
            "folder",
        )  # fmt: skip
    if state.settings != settings:
        larger = "; ".join(differences(settings, state.settings))
        sys.stderr.write(
            f"{folder}: the run goes on with a larger budget ({larger}): the learning rate rises to where "
            "the longer schedule has it at this point, and falls from there\n"
        )
    # About which head a torso was trained: its own settings say so, whatever became of the head since.
    about = states[-1].settings
    grown = settings["recipe"]["steps"] != about["recipe"]["steps"] or settings["minutes"] != about["minutes"]
    if begun == ["head", "torso"] and grown:
        sys.stderr.write(f"{folder}: the head goes on, so the torso begins anew\n")
        return ["head"]
    return begun


def open_run(folder: Path, resuming: list[str]) -> None:
    """Makes the run's folder; of a finished run that is not gone on with, nothing is kept."""
    if not resuming and any(checkpoint_of(folder, phase).is_file() for phase in ("head", "torso")):
        shutil.rmtree(folder)
    make_folder(folder)
