"""What a run begins with beside its weights, and what of the training video its avatar keeps."""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch import Tensor

from nldf_engine.avatar import Avatar
from nldf_engine.avatar.provenance import Consent
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.rendering.fields import Conditions
from nldf_engine.rendering.torsos import Torso
from nldf_engine.systems.common.conditions import FrameEncoder
from nldf_engine.systems.common.motion import MotionEncoder, UpperBasis
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.nldf_fast.model import GridLightField
from nldf_engine.training.motion import SpeechData, fit_basis, fit_upper, opening_correlation, train_speech
from nldf_engine.training.presets import Recipe
from nldf_engine.training.scene import TrainingScene


def consent_for(dataset: Dataset, given: Consent | None) -> Consent:
    """What was given; "no-person" where the speaker is synthetic; else "unrecorded", with a word about it."""
    if given is not None and given.kind != "unrecorded":
        return given
    if dataset.info.source.get("kind") == "synthetic":
        return Consent("no-person")
    sys.stderr.write(
        'the avatar records no consent of the person it shows; --consent "NAME, YYYY-MM-DD, STATEMENT" does\n'
    )
    return Consent()


def learn_motion(
    encoder: FrameEncoder, scene: TrainingScene, recipe: Recipe, teacher: Avatar | None, resuming: bool
) -> None:
    """The scene's motion codes as the encoder wants them, and the network that tells the mouth's from speech.

    Args:
        encoder: of the field that is trained.
        scene: gets the codes.
        recipe: how the network is trained.
        teacher: a student takes the network of a teacher that has the same one: both then mean the same by a
            code.
        resuming: a run that goes on finds the network in its checkpoint.
    """
    if encoder.config.motion:
        codes = fit_basis(encoder.motion.basis.cpu(), scene.dataset, scene.fit).to(scene.device)
        encoder.motion.basis.to(scene.device)
        if not _take_over(encoder.motion, teacher) and not resuming:
            _learn_mouth(encoder.motion, scene, recipe, codes)
        scene.set_motion(codes)
    if encoder.config.upper:
        scene.set_upper(fit_upper(encoder.upper.cpu(), scene.dataset, scene.fit))
        encoder.upper.to(scene.device)
    teachers = getattr(getattr(teacher.portrait.field, "encoder", None), "upper", None) if teacher else None
    if teachers is not None and len(teachers.scale) > encoder.config.upper:
        # The components of one video are the same however many are asked for: the student's come first.
        scene.set_upper(fit_upper(UpperBasis(len(teachers.scale)), scene.dataset, scene.fit))


def learn_motion_again(
    encoder: FrameEncoder, scene: TrainingScene, recipe: Recipe, teacher: Avatar | None
) -> None:
    """The mouth's network once more, from the validation frames as well.

    To be called when all that is chosen by those frames is chosen: speech is what a minute of video has too
    little of. As `learn_motion`; nothing changes where the network is a teacher's.
    """
    if not encoder.config.motion or scene.conditions.motion is None or _shares_net(encoder.motion, teacher):
        return
    encoder.motion.speech.reset()
    heard = torch.cat([scene.fit, scene.validation])
    train_speech(encoder.motion, _speech_data(scene, scene.conditions.motion, heard), recipe.speech_steps)


def _learn_mouth(encoder: MotionEncoder, scene: TrainingScene, recipe: Recipe, codes: Tensor) -> None:
    data = _speech_data(scene, codes, scene.fit)
    train_speech(encoder, data, recipe.speech_steps)
    follows = opening_correlation(encoder, data.features, codes, scene.validation.to(scene.device))
    sys.stderr.write(f"speech tells the mouth's opening with a correlation of {follows:.2f}\n")


def _speech_data(scene: TrainingScene, codes: Tensor, frames: Tensor) -> SpeechData:
    usable = torch.zeros(len(codes), dtype=torch.bool)
    usable[frames] = True
    return SpeechData(scene.conditions.audio, codes, usable.to(scene.device), scene.frontend.name == "mel")


def _shares_net(encoder: MotionEncoder, teacher: Avatar | None) -> MotionEncoder | None:
    """The teacher's network, where it is one of the same kind."""
    known = getattr(getattr(teacher.portrait.field, "encoder", None), "motion", None) if teacher else None
    return known if known is not None and _shapes(known) == _shapes(encoder) else None


def _take_over(encoder: MotionEncoder, teacher: Avatar | None) -> bool:
    """Whether the encoder became the teacher's."""
    known = _shares_net(encoder, teacher)
    if known is not None:
        encoder.load_state_dict(known.state_dict())
    return known is not None


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a module by name: equal where one's weights fit the other."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def make_plate_or_layer(scene: TrainingScene) -> Torso:
    """The scene's plate, or a layer to be learned that moves as the plate does."""
    if not scene.learned_torso:
        return copy.deepcopy(scene.torso)
    layer = TorsoLayer()
    layer.calibrate(scene.torso, scene.poses[scene.fit], scene.motions[scene.fit])
    return layer


def calibrate(model: GridLightField, scene: TrainingScene) -> None:
    """Fits the model's input scales to the frames that are trained on, and its box to the head's region."""
    fit = scene.fit
    on = scene.fit.to(scene.device)
    conditions = Conditions(scene.conditions.audio[on], scene.conditions.eyes[on])
    model.calibrate(scene.poses[fit].to(scene.device), conditions, scene.region.points().to(scene.device))


def own_motion(scene: TrainingScene, upper: int) -> dict[str, Any]:
    """How the speaker moves in the training part, as `Avatar` takes it: what an avatar does by itself.

    Args:
        scene: the training video.
        upper: E, codes of the upper face that the avatar's field is told.

    Returns:
        "poses" [T, 4, 4], "eye_openness" [T], "upper" [T, E] or None, and "torso_motion" [T, 2, 3] or None
        where the torso was not tracked.
    """
    part = slice(scene.dataset.info.splits["train"][0], int(scene.validation.max()) + 1)
    conditions = scene.conditions
    told = conditions.upper[:, :upper] if upper and conditions.upper is not None else None

    def kept(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[part].cpu().contiguous()

    return {
        "poses": kept(scene.poses), "eye_openness": kept(conditions.eyes), "upper": kept(told),
        "torso_motion": kept(scene.motions if scene.torso_tracked else None),
    }  # fmt: skip
