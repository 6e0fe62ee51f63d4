"""What drivers learn ahead of the field: motion codes of mouth and upper face, and speech to motion codes."""

from __future__ import annotations

import copy
import sys

import torch
from torch import Tensor

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.base.clock import FPS
from nldf_engine.geometry.landmark_tracks import landmark_track
from nldf_engine.rendering.fields import Driver
from nldf_engine.systems.common.motion import MotionBasis, MotionEncoder, UpperBasis
from nldf_engine.training.motion import encode_mouth, encode_upper, fit_basis, fit_upper, placed_landmarks
from nldf_engine.training.prior import LipPrior, lip_prior
from nldf_engine.training.recipe import Recipe
from nldf_engine.training.scene import Scene
from nldf_engine.training.speech import (
    LearnSpeech,
    SpeechData,
    SpeechTuning,
    Spread,
    opening_correlation,
    opening_slope,
    predict_folds,
    predictions,
    pressed,
    train_speech,
)

# Speech for which the network takes the recipe's steps from the prior; steps go with the seconds, to a limit.
ENOUGH_SECONDS = 32
MOST_STEPS = 2.0  # times the recipe's


def learn_motion(
    driver: Driver, scene: Scene, recipe: Recipe, teacher: Avatar | None, resuming: bool
) -> None:
    """Puts the driver's motion codes into the scene, and trains the network that predicts the mouth's.

    Args:
        driver: of the head that is trained.
        scene: gets the codes.
        recipe: how the network is trained.
        teacher: a student takes the network of a teacher that has the same one: both then mean the same by a
            code.
        resuming: a resumed run finds the network in its checkpoint.
    """
    motion, upper = driver.part("motion"), driver.part("upper")
    if motion is not None:
        codes = _mouth_codes(motion.basis.cpu(), scene, recipe, teacher).to(scene.device)
        motion.basis.to(scene.device)
        if not _take_over(motion, teacher) and not resuming:
            _learn_mouth(motion, scene, recipe, codes)
        scene.set_track("motion", codes)
    known = None if teacher is None else teacher.portrait.head.driver.part("upper")
    if upper is not None or known is not None:
        scene.set_track("upper", _upper_codes(upper, known, scene))
    if teacher is not None and teacher.portrait.head.driver.part("landmarks") is not None:
        scene.set_track("landmarks", tracked_landmarks(scene))


def _upper_codes(upper: UpperBasis | None, known: UpperBasis | None, scene: Scene) -> Tensor:
    """[T, E] codes of the upper face, E the larger number of `upper`'s and the teacher's, `known`.

    They are the teacher's as far as it goes: whoever has fewer looks at the first of them.
    """
    if known is None or (upper is not None and upper.dim > known.dim):
        assert upper is not None  # one of the two is there
        codes = fit_upper(upper.cpu(), scene.dataset, scene.heard)
    else:
        codes = encode_upper(copy.deepcopy(known).cpu(), scene.dataset)
        if upper is not None:
            upper.take(known)
    if upper is not None:
        upper.to(scene.device)
    return codes


def _mouth_codes(basis: MotionBasis, scene: Scene, recipe: Recipe, teacher: Avatar | None) -> Tensor:
    """[T, K] in a basis that is fitted, or that becomes the teacher's: what a code means to it is what it
    must mean to its student."""
    known = None if teacher is None else teacher.portrait.head.driver.part("motion")
    if known is not None and _shapes(known.basis) == _shapes(basis):
        basis.load_state_dict(known.basis.state_dict())
        return encode_mouth(basis, scene.dataset)
    shared = lip_prior().components if recipe.driving.shared_basis else None
    return fit_basis(basis, scene.dataset, scene.heard, shared)


def tracked_landmarks(scene: Scene) -> Tensor:
    """[T, 68, 3] metres in head space, the landmarks that were tracked in the video; says on standard error
    how many frames were without a face."""
    dataset = scene.dataset
    landmarks, poses = (torch.from_numpy(x).float() for x in (dataset.landmarks, dataset.poses))
    track, missing = landmark_track(landmarks, poses, dataset.camera, dataset.extra.get("shape"))
    if missing:
        sys.stderr.write(
            f"{dataset.path}: {missing} frames without a face; their landmarks are interpolated\n"
        )
    return track


def learn_motion_again(driver: Driver, scene: Scene, recipe: Recipe, teacher: Avatar | None) -> None:
    """The mouth's network once more, from the validation frames as well.

    To be called when all that is chosen by those frames is chosen: speech is what a minute of video has too
    little of. As `learn_motion`; nothing changes where the network is a teacher's.
    """
    motion, codes = driver.part("motion"), scene.conditions.motion
    if motion is None or codes is None or _shares_net(motion, teacher):
        return
    frames = torch.cat([scene.heard, scene.heard_validation])
    data, learn = speech_data(scene, recipe, motion.basis, codes, frames), learner(scene, recipe, codes)
    if not recipe.driving.spread:
        learn(motion, data)
        return
    folds, last = predict_folds(data, predictions(motion, learn)), motion.speech.last
    spread = Spread.of_folds(folds, data.codes, opening_slope(motion.basis))
    spread.fold_into(last.weight, last.bias)


def _learn_mouth(encoder: MotionEncoder, scene: Scene, recipe: Recipe, codes: Tensor) -> None:
    data = speech_data(scene, recipe, encoder.basis, codes, scene.heard)
    learn = learner(scene, recipe, codes)
    learn(encoder, data)
    follows = opening_correlation(encoder, data.features, codes, scene.heard_validation.to(scene.device))
    sys.stderr.write(f"speech predicts the mouth's opening with a correlation of {follows:.2f}\n")


def learner(scene: Scene, recipe: Recipe, codes: Tensor) -> LearnSpeech:
    """What trains a speech network on the scene from its beginning: the shared weights, or random ones."""
    driving, prior = recipe.driving, _prior(scene, recipe)
    placed: Tensor | None = None

    def learn(encoder: MotionEncoder, data: SpeechData) -> None:
        nonlocal placed
        if prior is None:
            encoder.speech.reset()
            train_speech(encoder, data, SpeechTuning(driving.speech_steps))
            return
        placed = placed_landmarks(encoder.basis.cpu(), scene.dataset) if placed is None else placed
        known = data.usable.nonzero()[:, 0].cpu()
        prior.start(encoder, placed, codes.cpu(), known, scene.frontend.ahead)
        encoder.to(scene.device)
        # A few seconds are soon learned by heart, and what the prior knew is forgotten meanwhile.
        share = min(MOST_STEPS, len(known) / (ENOUGH_SECONDS * FPS))
        steps = max(1, round(share * driving.adapt_steps))
        train_speech(encoder, data, SpeechTuning(steps, driving.adapt_rate))

    return learn


def speech_net(recipe: Recipe, frontend: FrontendConfig) -> str:
    """Which network predicts motion codes, of `nn.speech.SPEECH_NETS`."""
    wanted = recipe.driving.speech_net
    usual = "conv" if frontend.kind.spectral_bands else "lip"
    return usual if wanted == "auto" else wanted


def _prior(scene: Scene, recipe: Recipe) -> LipPrior | None:
    """The shared network, where the recipe wants it and the features are of its kind."""
    if not recipe.driving.prior or speech_net(recipe, scene.frontend) != "lip":
        return None
    found = lip_prior()
    return found if found.fits(scene.frontend) else None


def speech_data(
    scene: Scene, recipe: Recipe, basis: MotionBasis, codes: Tensor, frames: Tensor
) -> SpeechData:
    """What the speech network learns from: sound and codes [T, K], `pressed`, in the frames [N]."""
    usable = torch.zeros(len(codes), dtype=torch.bool)
    usable[frames] = True
    bands = scene.frontend.kind.spectral_bands
    copies = None
    if recipe.driving.sound_copies and scene.frontend.kind.stream is not None and not bands:
        copies = scene.sound_copies(recipe.driving.sound_copies)
    usable = usable.to(scene.device)
    return SpeechData(scene.conditions.audio, pressed(basis, codes, usable), usable, bands, copies)


def _shares_net(encoder: MotionEncoder, teacher: Avatar | None) -> MotionEncoder | None:
    """The teacher's network, where it is one of the same kind."""
    known = None if teacher is None else teacher.portrait.head.driver.part("motion")
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
