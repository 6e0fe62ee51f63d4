"""The second step of a run: a field for the torso, about the head that was trained first (ad_nerf 3.4)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from nldf_engine.avatar import Avatar
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.torso_field import TorsoField, TorsoFieldConfig
from nldf_engine.training.checkpoint import RunState
from nldf_engine.training.distill import SegmentTargets, segment_targets
from nldf_engine.training.objectives import make_objective
from nldf_engine.training.parts import TorsoPart
from nldf_engine.training.presets import Preset, Recipe, torso_recipe
from nldf_engine.training.scene import TrainingScene
from nldf_engine.training.trainer import Budget, Trainer


def taught_torso(teacher: Avatar | None) -> TorsoField | None:
    """The teacher's torso where it is a field."""
    torso = None if teacher is None else teacher.portrait.torso
    return torso if isinstance(torso, TorsoField) else None


def wants_field(recipe: Recipe, teacher: Avatar | None) -> bool:
    """Whether a torso's field is trained after the head."""
    return recipe.torso == "field" or (recipe.torso == "taught" and taught_torso(teacher) is not None)


def make_torso(
    preset: Preset, recipe: Recipe, portrait: Portrait, scene: TrainingScene, teacher: Avatar | None
) -> TorsoField:
    """An untrained torso field of the preset's kind, in the view of the first frame that is trained on.

    A student's stands as its teacher's does, so that both see the same rays.
    """
    head: Any = portrait.field
    conditions = dataclasses.replace(head.config.conditions, head_pose=preset.pose_frequencies)
    network: Any = preset.model(head.config.bounds, conditions)
    taught = taught_torso(teacher)
    stands = TorsoFieldConfig(recipe.torso_in_front, recipe.torso_follows)
    torso = TorsoField(network, stands if taught is None else taught.config)
    first = scene.poses[scene.fit[0]] if taught is None else taught.pose.cpu()
    torso.place(scene.camera, first, scene.torso)
    network.encoder.calibrate(scene.poses[scene.fit])
    return torso


def train_torso(
    torso: TorsoField, portrait: Portrait, scene: TrainingScene, recipe: Recipe, run: TorsoRun
) -> tuple[Portrait, RunState]:
    """Trains a torso's field; the head stays as it is.

    Returns:
        the portrait of both fields, and where the run ended.
    """
    head: Any = portrait.field
    head.requires_grad_(False)
    both = Portrait(head, portrait.region, torso).to(scene.device)
    part = TorsoPart(both, scene)
    part.mark_region()
    targets: SegmentTargets | None = None
    if run.teacher is not None and taught_torso(run.teacher) is not None and recipe.distillation:
        taught = TorsoPart(run.teacher.portrait.to(scene.device), scene)
        targets = segment_targets(taught, recipe.distilled_frames, run.targets)
    own = torso_recipe(recipe)
    objective = make_objective(part, both, own, targets)
    trainer = Trainer(both, scene, objective, own, run.budget, RunState(run.settings), run.folder)
    torch.manual_seed(run.seed)
    if run.resuming:
        trainer.resume()
        trainer.state.settings, trainer.state.finished = run.settings, False
    trainer.run(run.label)
    return both, trainer.state


@dataclasses.dataclass(frozen=True)
class TorsoRun:
    """Where and how long.

    Args:
        folder: the run's own folder: checkpoint, events, curves.
        targets: folder of a teacher's targets.
        budget: when to stop.
        settings: all that the curve depends on.
        seed: of the sampling.
        resuming: go on from the folder's checkpoint.
        teacher: an avatar that may have a torso field, or None.
        label: of the progress bar.
    """

    folder: Path
    targets: Path
    budget: Budget
    settings: dict[str, Any]
    seed: int
    resuming: bool
    teacher: Avatar | None
    label: str
