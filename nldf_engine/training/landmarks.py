"""Fits a driver's landmarks to a video, and trains the network from speech to landmarks in its loop
(gaussian landmark 4.B).

At first the network goes on from the true landmarks of the frame before ("guided"). What it makes of its own
past it learns in the second part: its loop runs over the whole stretch without gradients, and what came out
is the past of each frame, from which it is to find the true landmarks all the same. So every step is two
passes over all frames at once but for the loop itself, and gradients pass through one frame, not through
hundreds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.base.progress import Bar
from nldf_engine.geometry.face_mesh import MARKS_LOWER_INNER, MARKS_SPEECH, MARKS_UPPER_INNER
from nldf_engine.nn.landmarks import LandmarkSpeech
from nldf_engine.nn.speech import LipNet
from nldf_engine.rendering.fields import Driver
from nldf_engine.training.driving import speech_net, tracked_landmarks
from nldf_engine.training.prior import lip_prior
from nldf_engine.training.recipe import MOST_STEPS, Recipe, check_range, check_weights
from nldf_engine.training.scene import Scene
from nldf_engine.training.speech import (
    SpeechData,
    Spread,
    Stretches,
    between_rests,
    predict_folds,
    rate_at,
)

WEIGHT_DECAY = 1e-2
# Errors beyond so many units (standard deviations of a landmark, on the mean) count linearly: slips of a
# tracker.
LINEAR_FROM = 4.0
# Silence before and behind the sound, frames, and the share of the frames whose lips are closest that its
# landmarks are the mean of.
SILENCE, CLOSEST = 48, 0.1
# Noise on the true past of a guided step, in units: without, the past alone says where the next frame is.
PAST_NOISE = 0.3
UPPER, LOWER = MARKS_SPEECH.index(MARKS_UPPER_INNER), MARKS_SPEECH.index(MARKS_LOWER_INNER)


@dataclass(frozen=True)
class LandmarkTuning:
    """How the network from speech to landmarks is trained; the defaults are the paper's, on one GPU.

    Args:
        steps: optimiser steps.
        rate: AdamW's first learning rate.
        guided: share of the steps that go on from true landmarks; the others go on from the network's own.
        stretch: frames of a group.
        stretches: groups a step.
        copied: share of the groups whose sound is a copy, as of another voice or room.
        velocity: weight of the squared change from frame to frame, beside eq. (2).
    """

    steps: int = 3000
    rate: float = 1e-4
    guided: float = 0.4
    stretch: int = 200
    stretches: int = 1
    copied: float = 0.6
    velocity: float = 0.0

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1, MOST_STEPS)
        check_range("stretch", self.stretch, 2, 4096)
        check_range("stretches", self.stretches, 1, 256)
        check_range("guided", self.guided, 0, 1)
        check_range("copied", self.copied, 0, 1)
        check_weights(velocity=self.velocity)
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate: expected more than 0 and at most 1, got {self.rate}")


def fit_landmarks(driver: Driver, scene: Scene) -> Tensor:
    """Fits the driver's part "landmarks" to the frames that are trained on; [T, 68, 3] of all frames."""
    part, track = driver.part("landmarks"), tracked_landmarks(scene)
    part.fit(track[scene.fit], scene.conditions.eyes[scene.fit.to(scene.device)].cpu())
    return track


def learn_landmarks(
    driver: Driver, scene: Scene, recipe: Recipe, tuning: LandmarkTuning, resuming: bool = False
) -> None:
    """Stage 1: puts the true track "landmarks" into the scene, and trains the network that predicts it.

    Args:
        driver: with a part "landmarks".
        scene: gets the track.
        recipe: whose `driving` says which sounds are learned from.
        tuning: how the network is trained.
        resuming: a resumed run finds the network in its checkpoint.
    """
    part = driver.part("landmarks")
    track = fit_landmarks(driver, scene)
    part.to(scene.device)
    if not resuming:
        data = landmark_data(driver, scene, recipe, track, scene.heard)
        learn_net(part.speech, data, scene, recipe, tuning)
        follows = opening_correlation(part.speech, data, scene.heard_validation.to(scene.device))
        sys.stderr.write(f"speech predicts the opening of the lips with a correlation of {follows:.2f}\n")
    scene.set_track("landmarks", track)
    set_spoken(driver, scene)


def set_spoken(driver: Driver, scene: Scene) -> None:
    """Puts what the driver makes of the whole sound into the scene: for frames that are driven by audio
    alone."""
    follower = driver.follow()
    assert follower is not None, "a driver of landmarks follows the sound"
    with torch.no_grad():
        for name, rows in follower.push(scene.conditions.audio, True).items():
            scene.set_track(name, rows)


def learn_landmarks_again(driver: Driver, scene: Scene, recipe: Recipe, tuning: LandmarkTuning) -> None:
    """The network once more, from the validation frames as well; for when nothing is left to choose by
    them."""
    part, track = driver.part("landmarks"), scene.conditions.get("landmarks")
    assert track is not None, "learn_landmarks comes first"
    frames = torch.cat([scene.heard, scene.heard_validation])
    data = landmark_data(driver, scene, recipe, track, frames)
    if recipe.driving.spread:
        learn_spread(part.speech, data, scene, recipe, tuning)
    else:
        learn_net(part.speech, data, scene, recipe, tuning)
    set_spoken(driver, scene)


def learn_spread(
    net: LandmarkSpeech, data: SpeechData, scene: Scene, recipe: Recipe, tuning: LandmarkTuning
) -> None:
    """As `learn_net`, and gives what the network makes the spread of the true landmarks (`Spread`), measured
    by networks on frames that they did not learn from."""

    def predict(of: SpeechData) -> Tensor:
        learn_net(net, of, scene, recipe, tuning)
        return net.decode(of.features).flatten(1)

    spread = Spread.of_folds(predict_folds(data, predict), data.codes, opening_of(net.points))
    spread.fold_into(net.spread, net.spread_bias)


def opening_of(points: int) -> Tensor:
    """[3 P] by how many units one of each displacement opens the lips."""
    slope = torch.zeros(points, 3)
    slope[LOWER, 1], slope[UPPER, 1] = 1.0, -1.0
    return slope.flatten()


def landmark_data(driver: Driver, scene: Scene, recipe: Recipe, track: Tensor, frames: Tensor) -> SpeechData:
    """Sound and displacements [T, 111] of the track [T, 68, 3], to learn from in the frames [N]."""
    part = driver.part("landmarks")
    usable = torch.zeros(len(track), dtype=torch.bool)
    usable[frames.cpu()] = True
    kind, copies = scene.frontend.kind, None
    if recipe.driving.sound_copies and kind.stream is not None and not kind.spectral_bands:
        copies = scene.sound_copies(recipe.driving.sound_copies)
    wanted = part.displacements(track.to(scene.device)).flatten(1)
    return SpeechData(scene.conditions.audio, wanted, usable.to(scene.device), kind.spectral_bands, copies)


def learn_net(
    net: LandmarkSpeech, data: SpeechData, scene: Scene, recipe: Recipe, tuning: LandmarkTuning
) -> None:
    """Trains the network from its beginning: random weights, or those that other speakers taught its encoder
    of the sound, where the recipe wants them and the features are of their kind."""
    net.reset()
    if recipe.driving.prior and speech_net(recipe, scene.frontend) == "lip":
        prior = lip_prior()
        if prior.fits(scene.frontend) and isinstance(net.sound, LipNet):
            prior.start_features(net.sound, scene.frontend.ahead)
    train_landmark_speech(net, data, tuning)


def resting(data: SpeechData) -> Tensor:
    """[111] the mean displacements of the frames whose lips are closest."""
    known = data.codes[data.usable]
    points = known.view(len(known), -1, 3)
    opening = points[:, LOWER, 1] - points[:, UPPER, 1]
    return known[opening.argsort()[: max(1, round(CLOSEST * len(known)))]].mean(0)


def train_landmark_speech(net: LandmarkSpeech, data: SpeechData, tuning: LandmarkTuning) -> None:
    """Trains the network on stretches of consecutive frames, from the weights that it has."""
    spread = data.features.std().clamp_min(1e-6)
    data = between_rests(data, resting(data), min(SILENCE, len(data.codes)))
    stretches = Stretches(data, tuning.stretches, tuning.stretch, tuning.copied, spread)
    wanted = data.codes.view(len(data.codes), -1, 3)
    net.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(net.parameters(), tuning.rate, weight_decay=WEIGHT_DECAY)
    guided = round(tuning.guided * tuning.steps)
    with Bar("learn landmarks from speech", tuning.steps, "step") as bar:
        for step in range(tuning.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, tuning.steps, tuning.rate)
            frames, windows = stretches.draw()
            before = guided_past(wanted, frames) if step < guided else own_past(net, windows)
            loss = landmark_loss(net(windows, before), wanted[frames], data.usable[frames], tuning.velocity)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            bar.step(note=f"error {float(loss.detach()):.4f}")
    net.eval().requires_grad_(False)


def guided_past(wanted: Tensor, frames: Tensor) -> Tensor:
    """[N, L, P, 3] the true displacements before each of the frames [N, L], a little off; the first's its
    own."""
    before = wanted[(frames - 1).clamp_min(0)]
    return (
        before + PAST_NOISE * torch.randn(len(frames), frames.shape[1], 1, 1, device=before.device) * before
    )


def own_past(net: LandmarkSpeech, windows: Tensor) -> Tensor:
    """[N, L, P, 3] what the network, without dropout, makes before each frame of windows [N, L + 2 REACH, W,
    D]."""
    net.eval()
    with torch.no_grad():
        made = net.speak(net.sound(windows))
    net.train()
    return F.pad(made[:, :-1], (0, 0, 0, 0, 1, 0))


def landmark_loss(made: Tensor, wanted: Tensor, usable: Tensor, velocity: float = 0.0) -> Tensor:
    """Eq. (2), the smooth L1 of displacements [N, L, P, 3] where frames are `usable` [N, L].

    The paper's turns linear at one world unit, far beyond its errors; ours at `LINEAR_FROM` units.
    `velocity` is the weight of half the squared error of the changes from frame to frame.
    """

    def mean(of: Tensor, where: Tensor) -> Tensor:
        return (of.mean((-2, -1)) * where).sum() / where.sum().clamp_min(1)

    error = made - wanted
    zero = torch.zeros_like(error)
    loss = LINEAR_FROM * mean(F.smooth_l1_loss(error, zero, reduction="none", beta=LINEAR_FROM), usable)
    if velocity:
        both = usable[:, 1:] & usable[:, :-1]
        loss = loss + velocity * mean(0.5 * (error[:, 1:] - error[:, :-1]).square(), both)
    return loss


@torch.no_grad()
def opening_correlation(net: LandmarkSpeech, data: SpeechData, frames: Tensor) -> float:
    """Correlation of the predicted opening of the lips with the true one over the frames [N]."""
    points = net.decode(data.features)[frames], data.codes.view(len(data.codes), -1, 3)[frames]
    openings = torch.stack([of[:, LOWER, 1] - of[:, UPPER, 1] for of in points])
    return float(torch.corrcoef(openings)[0, 1])
