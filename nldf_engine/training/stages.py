"""The stages of a run: what is trained, in turn. Run, resumption and progress iterate over them.

A system's recipe returns its stages; `ray_stages` gives those of systems whose head is a ray field.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.rendering.fields import Bounds, Conditions, RayField
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.rendering.torsos import Torso
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.common.plane_network import refined
from nldf_engine.systems.common.torso_field import TorsoField, TorsoFieldConfig
from nldf_engine.systems.common.torso_layer import TorsoLayer, TorsoLayerConfig
from nldf_engine.systems.registry import find_system
from nldf_engine.training.bases import Base
from nldf_engine.training.config import TrainConfig
from nldf_engine.training.driving import learn_motion, learn_motion_again, speech_net
from nldf_engine.training.objective import Objective
from nldf_engine.training.presets import Preset
from nldf_engine.training.recipe import Recipe, value_at
from nldf_engine.training.scene import RayScene, Scenes
from nldf_engine.training.targets import HeadTarget, TorsoTarget, TrainTarget, ray_head

# Drivers that are fitted to a speaker, and so are each speaker's own (see `for_speaker`).
OWN_DRIVERS = ("motion", "upper")
N = TypeVar("N", bound=nn.Module)


@dataclass
class Subject:
    """A speaker of a run.

    Args:
        scene: the training video.
        portrait: what is trained; speakers of one run share the head's network (see `for_speaker`).
    """

    scene: RayScene
    portrait: Portrait


@dataclass
class Run:
    """What the stages of a run share.

    Args:
        preset: system, recipe and sizes.
        config: the settings beside it.
        scenes: the training videos.
        frontend: how audio becomes features.
        device: where to train.
        teacher: an avatar that teaches, or None.
        given: an avatar whose head is taken as it is, or None.
        base: networks to begin from, or None.
        subjects: the speakers; stages make them in `build`.
        begun: names of the stages whose checkpoints are continued.
        targets: folder of the teacher's targets.
        torso_field: between being built and being trained.
        notes: what a system found of its surroundings that the course of a run depends on, for the record; to
            be written when the stages are made.
    """

    preset: Preset
    config: TrainConfig
    scenes: Scenes
    frontend: FrontendConfig
    device: torch.device
    teacher: Avatar | None = None
    given: Avatar | None = None
    base: Base | None = None
    subjects: list[Subject] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    targets: Path = Path()
    torso_field: TorsoField | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return self.preset.recipe

    @property
    def source(self) -> Avatar | None:
        """The avatar that speech network and consent come from, where there is one."""
        return self.given or self.teacher


def nothing(*given: object) -> None:
    """Does nothing."""


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Args:
        name: in checkpoints, progress and settings.
        build: makes the modules that it needs; called for all stages in turn before any of them trains, also
            when a run is resumed behind it, so that a resumed run draws the same weights.
        objective: the loss for a speaker; None for a stage that trains by itself in `start`.
        budget: path in the recipe of its optimiser steps.
        start: called right before it trains.
        recipe: by which it is trained, of the run's recipe.
        seed: added to the run's for the stage's random numbers; None continues the previous stage's.
        folder: of its checkpoint, below the run's.
        label: behind the preset's name in the progress bar.
        keeps: whether avatars are kept along the way (`TrainConfig.keep`).
    """

    name: str
    build: Callable[[Run], None] = nothing
    objective: Callable[[Run, Subject], Objective] | None = None
    budget: str = "steps"
    start: Callable[[Run], None] = nothing
    recipe: Callable[[Recipe], Recipe] = lambda recipe: recipe
    seed: int | None = None
    folder: str = ""
    label: str = ""
    keeps: bool = False

    def steps(self, recipe: Recipe) -> int:
        """Its optimiser steps by the run's recipe."""
        return int(value_at(recipe, self.budget))


@dataclass(frozen=True)
class RayPart:
    """What a ray field's stage trains for a speaker, as its system's objective sees it.

    Args:
        subject: the speaker.
        target: head or torso.
        recipe: of the stage.
        teacher: the same target of the teacher, or None.
        targets: folder that keeps what the teacher answers.
    """

    subject: Subject
    target: TrainTarget
    recipe: Any
    teacher: TrainTarget | None
    targets: Path


RayObjective = Callable[[RayPart], Objective]
FillOwn = Callable[[RayField, RayScene], None]


def ray_stages(
    run: Run, objective: RayObjective, alone: bool = False, fill_own: FillOwn = nothing
) -> list[Stage]:
    """Speech to motion codes, the head's field, the torso's field where one is wanted, and speech once more.

    Args:
        run: of the stages.
        objective: the loss of head or torso.
        alone: the head is to be without its neck, for another torso that draws it.
        fill_own: fills what is a speaker's own in its network (`RayField.own_parts`) from its video; called
            as soon as the network is made, unless a head is given.

    Raises:
        FileProblem: see `wants_torso_field`.
        ValueError: several datasets with a teacher, a given head, or a torso's field.
    """
    torso = wants_torso_field(run)
    if len(run.scenes) > 1 and (torso or run.source is not None):
        raise ValueError(
            "dataset: a run over several datasets trains a head with --set torso=plate or layer, and takes "
            "neither a teacher nor a given head"
        )

    def of_head(run: Run, subject: Subject) -> Objective:
        in_front = torso and torso_config(run).in_front
        target = HeadTarget(subject.portrait, subject.scene, alone or in_front)
        taught = None
        if run.teacher is not None:
            taught = HeadTarget(run.teacher.portrait.to(run.device), subject.scene)
        return objective(RayPart(subject, target, run.recipe, taught, run.targets))

    def of_torso(run: Run, subject: Subject) -> Objective:
        target, taught = TorsoTarget(subject.portrait, subject.scene), None
        target.mark_region()
        if run.teacher is not None and torso_of_teacher(run) is not None:
            taught = TorsoTarget(run.teacher.portrait.to(run.device), subject.scene)
        return objective(RayPart(subject, target, run.recipe.for_torso(), taught, run.targets / "torso"))

    stages = [
        Stage("motion", start=_learn_motion),
        Stage(
            "head",
            lambda run: _build_subjects(run, fill_own),
            None if run.given else of_head,
            seed=1,
            keeps=True,
        ),
    ]
    if torso:
        stages.append(
            Stage(
                "torso",
                _build_torso_field,
                of_torso,
                "torso.steps",
                _start_torso_field,
                lambda recipe: recipe.for_torso(),
                2,
                "torso",
                "'s torso",
            )
        )
    return [*stages, Stage("motion-final", start=_learn_motion_again, seed=3)]


def torso_of_teacher(run: Run) -> TorsoField | None:
    """The teacher's torso, where it is a field."""
    torso = None if run.teacher is None else run.teacher.portrait.torso
    return torso if isinstance(torso, TorsoField) else None


def wants_torso_field(run: Run) -> bool:
    """Whether a torso's field is trained after the head.

    Raises:
        FileProblem: a head is given, and there is no torso's field to train about it.
    """
    kind = run.recipe.torso.kind
    return kind in ("field", "distilled") and is_torso_trained(
        run, kind == "field" or torso_of_teacher(run) is not None
    )


def is_torso_trained(run: Run, wanted: bool) -> bool:
    """Whether the video shows the torso that is `wanted` after the head; says on standard error where not.

    Raises:
        FileProblem: a head is given, and there is no torso to train about it.
    """
    scene = run.scenes[0]
    if wanted and not scene.torso.shows():
        sys.stderr.write(f"{scene.dataset.path}: no frame shows a torso, so none is trained\n")
        wanted = False
    if run.given is not None and not wanted:
        raise FileProblem(
            Path(scene.dataset.path), "there is no torso to learn about the given head",
            "use a video that shows a torso, and a teacher whose torso is a field or --set torso=field",
        )  # fmt: skip
    return wanted


def torso_config(run: Run) -> TorsoFieldConfig:
    """How the torso's field is placed: a student's as its teacher's, so that both see the same rays."""
    taught = torso_of_teacher(run)
    own = TorsoFieldConfig(run.recipe.torso.in_front, run.recipe.torso.follows)
    return own if taught is None else taught.config


def _build_subjects(run: Run, fill_own: FillOwn) -> None:
    """One portrait a scene about one head's network: a given avatar's, or a new one."""
    # Moved first: what speakers share must not be moved apart afterwards.
    network = _head_field(run).to(run.device)
    if run.base is not None:
        run.base.fill(network, own_modules(network), run.frontend)
    for scene in run.scenes:
        own = for_speaker(network, beside=network.own_parts) if scene.identity else network
        if run.given is None:
            fill_own(own, scene)
        # Copies: the scene draws its rays on the CPU, wherever the portrait goes.
        head = RayHead(own, copy.deepcopy(scene.region))
        run.subjects.append(Subject(scene, Portrait(head, plate_or_layer(scene)).to(run.device)))


def _head_field(run: Run) -> Any:
    system = find_system(run.preset.system)
    if run.given is not None:
        if run.given.system != system.name:
            raise ValueError(f"head: expected an avatar of system {system.name!r}, got {run.given.system!r}")
        return ray_head(run.given.portrait).field
    assert system.field is not None, "ray_stages is for systems whose head is a ray field"
    bounds = bounds_of(run) if run.teacher is None else ray_head(run.teacher.portrait).bounds
    return system.field(run.preset.config(bounds, conditions_of(run)))


def conditions_of(run: Run) -> ConditionConfig:
    """What drives the heads of a run: sizes of its features and codes."""
    driving = run.recipe.driving
    window, features = run.scenes[0].conditions.audio.shape[1:]
    # The brows of a foreign folder are made of all of its 68 landmarks: they would reveal the mouth.
    foreign = any("layout" in scene.dataset.info.source for scene in run.scenes)
    several = len(run.scenes) > 1
    return ConditionConfig(
        int(features), int(window), motion=driving.motion_codes, speech=speech_net(run.recipe, run.frontend),
        upper=0 if foreign else driving.upper_codes,
        identity=driving.identity_codes if several else 0,
        speakers=len(run.scenes) if several and driving.identity_codes else 0,
    )  # fmt: skip


def bounds_of(run: Run) -> Bounds:
    """The depths between which the heads of all scenes are."""
    every = [scene.bounds for scene in run.scenes]
    return Bounds(min(one.near for one in every), max(one.far for one in every))


def own_modules(
    network: nn.Module, own_drivers: Sequence[str] = OWN_DRIVERS, beside: Sequence[nn.Module] | None = None
) -> list[nn.Module]:
    """The modules of a network that are one speaker's: drivers of its encoder, and those `beside` it, by
    default the ray field's `own_parts`."""
    field: Any = network
    drivers = [part for name in own_drivers if (part := field.encoder.part(name)) is not None]
    return [*drivers, *(field.own_parts if beside is None else beside)]


def for_speaker(network: N, own_drivers: Sequence[str] = OWN_DRIVERS, beside: Sequence[nn.Module] = ()) -> N:
    """A network for another speaker of a run: the same modules and weights, but own motion drivers.

    Motion codes of mouth and upper face are fitted to one face, and speech is mapped to them: where shared,
    each speaker's would take the place of the one's before.

    Args:
        network: has an `encoder`.
        own_drivers: names of the encoder's parts that each speaker has for its own.
        beside: further modules of the network that each speaker has for its own.
    """
    encoder: Any = network.encoder
    parts = own_modules(network, own_drivers, beside)
    own = {id(module) for part in parts for module in part.modules()} | {id(network), id(encoder)}
    # What holds one of them is no longer shared either; the rest of it is.
    own |= {id(module) for module in network.modules() if own & {id(inside) for inside in module.modules()}}
    tensors = {id(value) for part in parts for value in (*part.parameters(), *part.buffers())}
    shared: list[Any] = [module for module in network.modules() if id(module) not in own]
    shared += [v for v in (*network.parameters(), *network.buffers()) if id(v) not in tensors]
    return copy.deepcopy(network, {id(value): value for value in shared})


def plate_or_layer(scene: RayScene) -> Torso:
    """The scene's plate, or a layer to be learned that moves as the plate does."""
    if not scene.learned_torso:
        return copy.deepcopy(scene.torso)
    config = TorsoLayerConfig()
    layer = TorsoLayer(
        dataclasses.replace(config, resolutions=refined(config.resolutions, scene.camera.width))
    )
    layer.calibrate(scene.torso, scene.poses[scene.fit], scene.motions[scene.fit])
    return layer


def calibrate(portrait: Portrait, scenes: Sequence[RayScene]) -> None:
    """Fits the field's input scales to the frames that are trained on, and its box to the heads' regions."""
    device = scenes[0].device
    fit = [scene.conditions.at(scene.fit.to(device)).tracks for scene in scenes]
    conditions = Conditions(**{name: torch.cat([tracks[name] for tracks in fit]) for name in fit[0]})
    poses = torch.cat([scene.poses[scene.fit] for scene in scenes]).to(device)
    points = torch.cat([scene.region.points() for scene in scenes]).to(device)
    ray_head(portrait).field.calibrate(poses, conditions, points)


def _learn_motion(run: Run) -> None:
    """Motion codes of all scenes and the speech network, before anything is trained on them."""
    resuming = "head" in run.begun
    for subject in run.subjects:
        learn_motion(subject.portrait.head.driver, subject.scene, run.recipe, run.source, resuming)
    if run.given is None:
        calibrate(run.subjects[0].portrait, run.scenes)


def _learn_motion_again(run: Run) -> None:
    """The speech network once more, when nothing is left to choose by the validation split."""
    for subject in run.subjects:
        learn_motion_again(subject.portrait.head.driver, subject.scene, run.recipe, run.source)


def _build_torso_field(run: Run) -> None:
    """An untrained torso field of the preset's kind, in the view of the first frame that is trained on.

    It is kept aside until its stage starts: the head is trained in front of the plate.
    """
    run.torso_field = make_torso_field(run)


def make_torso_field(run: Run) -> TorsoField:
    """An untrained torso field about the head of the run's speaker; see `torso_config`."""
    subject = run.subjects[0]
    head, scene = ray_head(subject.portrait), subject.scene
    frequencies = run.recipe.torso.pose_frequencies
    conditions = dataclasses.replace(head.field.config.conditions, head_pose=frequencies)
    system = find_system(run.preset.system)
    assert system.field is not None
    network = system.field(run.preset.config(head.bounds, conditions))
    torso, taught = TorsoField(network, torso_config(run)), torso_of_teacher(run)
    first = scene.poses[scene.fit[0]] if taught is None else taught.pose.cpu()
    torso.place(scene.camera, first, scene.torso)
    network.encoder.calibrate(scene.poses[scene.fit])
    return torso


def _start_torso_field(run: Run) -> None:
    """Puts the field into the portrait; the head stays as it is."""
    subject = run.subjects[0]
    subject.portrait.head.requires_grad_(False)
    assert run.torso_field is not None
    subject.portrait = Portrait(subject.portrait.head, run.torso_field).to(run.device)
