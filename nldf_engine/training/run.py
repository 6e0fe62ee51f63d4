"""A whole run: dataset and preset in, avatar out."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar.avatar import Avatar, check_target
from nldf_engine.avatar.provenance import Consent
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import check_writable, overlap, write_json
from nldf_engine.base.seeds import check_seed
from nldf_engine.base.version import __version__
from nldf_engine.datasets import open_dataset
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.ops.device import choose_device
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.nldf_fast.model import GridLightField
from nldf_engine.training.checkpoint import RunState
from nldf_engine.training.distill import segment_targets
from nldf_engine.training.objectives import make_objective
from nldf_engine.training.parts import HeadPart
from nldf_engine.training.presets import MOST, Preset, Recipe, find_preset
from nldf_engine.training.resume import find_run, open_run, targets_key
from nldf_engine.training.scene import TrainingScene
from nldf_engine.training.start import (
    calibrate,
    consent_for,
    learn_motion,
    learn_motion_again,
    make_plate_or_layer,
    own_motion,
)
from nldf_engine.training.torso_phase import TorsoRun, make_torso, train_torso, wants_field
from nldf_engine.training.trainer import Budget, Trainer

SMALLEST, LARGEST = 16, MOST["size"]
LONGEST_MINUTES = 60 * 24 * 365


@dataclass(frozen=True)
class TrainConfig:
    """What a run may be told beside its preset.

    Args:
        teacher: an avatar whose fields teach (NLDF only).
        head: an avatar whose trained head is taken as it is; only the torso's field is trained.
        size: width of the training pictures; the preset's where None.
        steps: optimiser steps of the head; the preset's where None.
        minutes: a time budget instead of steps; head and torso share it as they share the steps.
        device: "auto", "cpu" or "cuda".
        resume: go on from the checkpoint.
        seed: of weights and sampling.
        overrides: fields of the recipe to change, as text.
        consent: who agreed to the avatar; the teacher's record, or none, where None.
        keep: steps of the head at which the avatar is written beside, as AVATAR-STEP: with the weights that
            the run would have kept had it been stopped there, without a torso's field, and with the speech
            network that has not heard the validation cut. The run itself is the same with and without.
        targets: folder of the teacher's targets, for students of one teacher to share; the run's own where
            None.

    Raises:
        TypeError, ValueError: the seed is no integer of 0 to 2^32 - 1.
        ValueError: a step to keep is below 1.
    """

    teacher: Path | None = None
    head: Path | None = None
    size: int | None = None
    steps: int | None = None
    minutes: float | None = None
    device: str = "auto"
    resume: bool = False
    seed: int = 0
    overrides: Mapping[str, str] = field(default_factory=dict)
    consent: Consent | None = None
    keep: tuple[int, ...] = ()
    targets: Path | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if min(self.keep, default=1) < 1:
            raise ValueError(f"keep: expected steps of 1 or more, got {min(self.keep)}")


@dataclass(frozen=True)
class TrainResult:
    """What came out.

    Args:
        avatar: the folder.
        steps, seconds: spent training head and torso (validation and preparation left out).
        validation_psnr: the best figure on the validation cut, dB, full frame, while it was not trained on.
        history: of the head, see `RunState`.
        torso_history: the same of the torso's field; empty where there is none.
    """

    avatar: Path
    steps: int
    seconds: float
    validation_psnr: float
    history: list[dict[str, float]]
    torso_history: list[dict[str, float]] = field(default_factory=list)


def _apply(preset: Preset, config: TrainConfig) -> Recipe:
    changes = {name: value for name in ("size", "steps") if (value := getattr(config, name)) is not None}
    recipe = dataclasses.replace(preset.recipe, **changes)
    if not SMALLEST <= recipe.size <= LARGEST:
        raise ValueError(f"size: expected {SMALLEST} to {LARGEST} pixels, got {recipe.size}")
    if config.minutes is not None and not 0 < config.minutes <= LONGEST_MINUTES:
        raise ValueError(f"minutes: expected a positive budget of at most a year, got {config.minutes}")
    if config.teacher is not None and not recipe.system.startswith("nldf"):
        raise ValueError(f"teacher: only NLDF presets learn from a teacher, not {recipe.system!r}")
    if config.head is not None and recipe.torso not in ("field", "taught"):
        raise ValueError(f"head: only a torso's field is trained about a given head, not a {recipe.torso}")
    return recipe


def check_settings(preset: str, config: TrainConfig) -> None:
    """What `train` checks of its settings, without looking at any file.

    Raises:
        ValueError: an unknown preset or setting, or a value out of range.
    """
    _apply(find_preset(preset, config.overrides), config)


def _settings(
    preset: str, recipe: Recipe, dataset: Dataset, config: TrainConfig, phases: list[str]
) -> dict[str, Any]:
    """All that a run's curve depends on."""

    def digest(path: Path | None) -> str | None:
        return None if path is None else hashlib.sha256((Path(path) / "avatar.json").read_bytes()).hexdigest()

    return {
        "preset": preset, "recipe": dataclasses.asdict(recipe), "dataset": dataset.hash(),
        "teacher": digest(config.teacher), "head": digest(config.head), "phases": phases,
        "seed": config.seed, "minutes": config.minutes,
    }  # fmt: skip


def _load_given(path: Path | None, dataset: Dataset, what: str) -> Avatar | None:
    """A teacher, or whose head is taken; refused where it may have seen what the evaluation holds out."""
    if path is None:
        return None
    given = Avatar.load(path)
    if given.provenance.get("dataset") != dataset.hash():
        raise FileProblem(
            Path(path), f"it was trained on another dataset than this one, so it can't be the {what}",
            f"train the {what} on the same dataset",
        )  # fmt: skip
    return given


def _provenance(
    dataset: Dataset, settings: dict[str, Any], state: RunState, torso: RunState | None
) -> dict[str, Any]:
    after = {} if torso is None else {"torso": _spent(torso)}
    return {
        "package": __version__, "torch": torch.__version__, "python": platform.python_version(),
        "machine": platform.machine(), "threads": torch.get_num_threads(),
        "dataset": settings["dataset"], "source": dataset.info.source, "settings": settings,
        **_spent(state), **after,
    }  # fmt: skip


def _spent(state: RunState) -> dict[str, Any]:
    return {"steps": state.step, "seconds": round(state.seconds, 1), "validation_psnr": state.best_psnr}


def train(
    preset: str, dataset: str | Path, avatar: str | Path, config: TrainConfig | None = None
) -> TrainResult:
    """Trains `preset` on a dataset folder and writes an avatar folder.

    The run's own folder is `AVATAR.training`: checkpoint, TensorBoard events, curves, teacher's targets.
    No loss, choice or saved tensor comes from the held-out frames; the weights that are kept are the best
    on the last tenth of the training part, its validation cut, which no step trains on; or, with
    `closing_share`, the last ones of a run that ends on all of the training part. When nothing is left to
    choose, the network that tells the mouth's motion from speech is trained once more, on all of it as well.
    With `config.resume` the budget may be larger than the checkpoint's: the learning rate then goes on where
    the longer run's schedule has it at that step, which is higher than it was, and ends where every run's
    ends. Programs that train in a loop of their own may want `base.memory.keep_freed_memory`, as the command
    line calls it.

    Raises:
        FileProblem: the dataset, teacher or output folder can't be used.
        ValueError: an unknown preset or setting, or a value out of range.
    """
    config = config or TrainConfig()
    found = find_preset(preset, config.overrides)
    recipe = _apply(found, config)
    device = choose_device(config.device)
    avatar = check_target(avatar)
    kept = {step: check_target(avatar.with_name(f"{avatar.name}-{step}")) for step in config.keep}
    folder = check_writable(avatar.with_name(avatar.name + ".training"), folder=True)
    for read in (dataset, config.teacher, config.head):
        if read is not None and overlap(avatar, read):
            raise FileProblem(
                avatar, f"it overlaps with {read}, which is read from", "choose an output path apart from it"
            )
    data = open_dataset(dataset)
    # No cheap look at sizes: the hash below reads every byte of the data anyway.
    data.check_unchanged()
    teacher = _load_given(config.teacher if recipe.distillation else None, data, "teacher")
    given = _load_given(config.head, data, "head")
    source = given or teacher
    prepared = FrontendConfig(
        str(data.info.audio.get("frontend") or "mel"), dim=int(data.info.audio.get("dim", 0))
    )
    frontend = prepared.resolve() if source is None else source.frontend
    torch.manual_seed(config.seed)
    scene = TrainingScene(data, recipe.size, frontend, device, recipe.torso == "layer")
    phases = _phases(recipe, scene, teacher, given)
    settings = _settings(preset, recipe, data, config, phases)
    begun = find_run(folder, settings, config.resume)
    model = _model(found, recipe, scene, teacher, given)
    # Copies: the scene draws its rays on the CPU, wherever the portrait goes.
    portrait = Portrait(model, copy.deepcopy(scene.region), make_plate_or_layer(scene)).to(device)
    # Made here whatever the phase, so that a run that is gone on with draws the same weights.
    torso = make_torso(found, recipe, portrait, scene, teacher) if "torso" in phases else None
    open_run(folder, begun)
    learn_motion(model.encoder, scene, recipe, source, "head" in begun)
    if isinstance(model, GridLightField):
        calibrate(model, scene)
    targets = (config.targets or folder / "targets") / targets_key(settings)
    consent = consent_for(data, config.consent or (source.consent if source else None))

    def save(path: Path, portrait: Portrait, state: RunState, torso: RunState | None) -> None:
        Avatar(
            portrait, scene.camera, frontend, data.background(recipe.size), consent=consent,
            provenance=_provenance(data, settings, state, torso),
            **own_motion(scene, model.config.conditions.upper),
        ).save(path)  # fmt: skip

    def keep(portrait: Portrait, state: RunState) -> None:
        save(kept[state.step], portrait, state, None)

    shares = _shares(recipe, config.minutes, phases)
    state = RunState(settings)
    if "head" in phases:
        taught = None
        if teacher is not None:
            pupil = HeadPart(teacher.portrait.to(device), scene)
            taught = segment_targets(pupil, recipe.distilled_frames, targets)
        part = HeadPart(portrait, scene, torso is not None and torso.in_front)
        objective = make_objective(part, portrait, recipe, taught)
        trainer = Trainer(portrait, scene, objective, recipe, Budget(recipe.steps, shares[0]), state, folder)
        torch.manual_seed(config.seed + 1)
        if "head" in begun:
            trainer.resume()
            trainer.state.settings, trainer.state.finished = settings, False
        trainer.keep = dict.fromkeys(config.keep, keep)
        trainer.run(f"train {preset}")
        state = trainer.state
    after: RunState | None = None
    if torso is not None:
        run = TorsoRun(
            folder / "torso", targets / "torso", Budget(recipe.torso_steps, shares[1]), settings,
            config.seed + 2, "torso" in begun, teacher, f"train {preset}'s torso",
        )  # fmt: skip
        portrait, after = train_torso(torso, portrait, scene, recipe, run)
    torch.manual_seed(config.seed + 3)
    learn_motion_again(model.encoder, scene, recipe, source)

    save(avatar, portrait, state, after)
    last, later = after or state, [] if after is None else after.history
    figures = TrainResult(
        avatar, state.step + (after.step if after else 0), state.seconds + (after.seconds if after else 0),
        float(last.best_psnr or 0.0), state.history, later,
    )  # fmt: skip
    write_json(folder / "history.json", state.history)
    return figures


def _phases(recipe: Recipe, scene: TrainingScene, teacher: Avatar | None, given: Avatar | None) -> list[str]:
    """What is trained, in turn: the head where none is given, and the torso's field where one is wanted."""
    wanted = wants_field(recipe, teacher)
    if wanted and not scene.torso.shows():
        sys.stderr.write(f"{scene.dataset.path}: no frame shows a torso, so none is trained\n")
        wanted = False
    if given is not None and not wanted:
        raise FileProblem(
            Path(scene.dataset.path), "there is no torso's field to learn about the given head",
            "use a video that shows a torso, and a teacher whose torso is a field or --set torso=field",
        )  # fmt: skip
    return [*([] if given else ["head"]), *(["torso"] if wanted else [])]


def _model(
    preset: Preset, recipe: Recipe, scene: TrainingScene, teacher: Avatar | None, given: Avatar | None
) -> Any:
    """The head's network: a given avatar's, or a new one."""
    if given is not None:
        if given.system != recipe.system:
            raise ValueError(f"head: expected an avatar of system {recipe.system!r}, got {given.system!r}")
        return given.portrait.field
    window, features = scene.conditions.audio.shape[1:]
    # The brows of a foreign folder are made of all of its 68 landmarks: they would tell the mouth.
    upper_codes = 0 if "layout" in scene.dataset.info.source else recipe.upper_codes
    bounds = scene.bounds if teacher is None else teacher.portrait.field.config.bounds  # type: ignore[attr-defined]
    return preset.model(
        bounds,
        ConditionConfig(int(features), int(window), motion=recipe.motion_codes, upper=upper_codes),
    )


def _shares(recipe: Recipe, minutes: float | None, phases: list[str]) -> tuple[float | None, float | None]:
    """The minutes of head and torso: as their steps are to each other, where both are trained."""
    if minutes is None or len(phases) == 1:
        return minutes, minutes
    head = recipe.steps / (recipe.steps + recipe.torso_steps)
    return minutes * head, minutes * (1 - head)
