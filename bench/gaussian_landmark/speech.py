"""Stage 1 by itself, from audio to landmarks, on prepared speakers: nothing is drawn."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.lips.metrics import NAMES, Lips, lip_measures
from bench.lips.speaker import Sounds, open_speaker, spread
from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets import open_dataset
from nldf_engine.geometry.face_mesh import MARKS, MARKS_LIPS, MARKS_SPEECH
from nldf_engine.nn.autoregressive import DecoderSizes
from nldf_engine.nn.landmarks import ENCODERS, LandmarkSpeechSizes
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.common.motion import MOUTH, MotionBasis
from nldf_engine.systems.gaussian_landmark.driver import lip_opening
from nldf_engine.systems.gaussian_landmark.model import GaussianFieldConfig, MarksEncoder
from nldf_engine.systems.gaussian_landmark.recipe import GaussianRecipe
from nldf_engine.training.driving import speech_net
from nldf_engine.training.landmarks import (
    fit_landmarks,
    landmark_data,
    landmark_loss,
    learn_net,
    opening_of,
)
from nldf_engine.training.presets import find_preset
from nldf_engine.training.speech import Folds, SpeechData, predict_folds

PRESET, MOTION_PRESET = "gaussian-landmark-small", "nldf-fast"
SEEDS = 3
LIPS = [MARKS_SPEECH.index(number) for number in MARKS_LIPS]
"""Of the 37 landmarks that follow speech, the 20 of the lips."""
SAME_LIPS = [MOUTH.index(MARKS[number]) for number in MARKS_LIPS]
"""Of the landmarks that motion codes stand for, the same 20."""

Row = dict[str, float]


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Args:
        steps: optimiser steps of each training; None for the recipe's.
        seeds: trainings of each cell, of which tables show mean and standard deviation.
        split: frames that avatars and fields are measured on.
        frames: those, at most.
        cache: folder where features of the sound are kept; None to keep none.
        weights: folder of the public weights of losses; None for torch's cache alone.
        device: where avatars render.
        preset: whose parts are measured; `PRESET` where None.
    """

    steps: int | None = None
    seeds: int = SEEDS
    split: str = "validation"
    frames: int = 25
    cache: Path | None = None
    weights: Path | None = None
    device: str = "auto"
    preset: str | None = None

    def recipe(self) -> GaussianRecipe:
        """That of the preset, with so many steps of stage 1."""
        recipe = find_preset(self.preset or PRESET).recipe
        assert isinstance(recipe, GaussianRecipe)
        if self.steps is None:
            return recipe
        return dataclasses.replace(recipe, landmarks=dataclasses.replace(recipe.landmarks, steps=self.steps))


class Speaker:
    """A speaker's sound and tracked landmarks, and a network between them that is not trained yet.

    Args:
        path: what `nldf prepare` wrote.
        options: how it is measured.
        sizes: of the network.
    """

    def __init__(self, path: Path, options: Options, sizes: LandmarkSpeechSizes | None = None) -> None:
        self.scene = Sounds(open_dataset(path), FrontendConfig("whisper").resolve(), options.cache)
        self.recipe = options.recipe()
        window, dim = self.scene.conditions.audio.shape[1:]
        given = ConditionConfig(int(dim), int(window), speech=speech_net(self.recipe, self.scene.frontend))
        info = self.scene.dataset.info
        bounds = Bounds(info.near, info.far)
        config = GaussianFieldConfig(bounds, given, sizes or LandmarkSpeechSizes())
        self.encoder = MarksEncoder(config)
        self.driver = self.encoder.landmarks
        self.track = fit_landmarks(self.encoder, self.scene)

    def data(self, frames: Tensor) -> SpeechData:
        """What the network learns from in the frames [N]."""
        return landmark_data(self.encoder, self.scene, self.recipe, self.track, frames)

    def learn(self, data: SpeechData, seed: int = 0) -> Tensor:
        """[T, 111] displacements that the network makes of the whole sound, once trained from `seed`."""
        torch.manual_seed(seed)
        net = self.driver.speech
        learn_net(net, data, self.scene, self.recipe, self.recipe.landmarks)
        return net.decode(data.features).flatten(1)

    def lips(self, displacements: Tensor) -> Lips:
        """The lips of displacements [T, 111]."""
        whole = self.driver.usual.repeat(len(displacements), 1, 1)
        whole[:, list(MARKS_SPEECH)] = self.driver.spoken(displacements.unflatten(1, (-1, 3)))
        return lips_of(whole)


def lips_of(landmarks: Tensor) -> Lips:
    """The lips of landmarks [T, 68, 3], without their depth, which no video shows."""
    return Lips(lip_opening(landmarks), landmarks[:, list(MARKS_LIPS), :2])


def encoders(path: Path, options: Options) -> dict[str, Row]:
    """Table II: which encoder takes the landmarks, and whether the sound comes in under an alignment bias.

    Losses are eq. (2) of what the network makes in its own loop, on the frames it learned from and on the
    validation frames, in hundredths of a square unit (a standard deviation of a landmark); `lips_mm` is the
    mean distance of the lips there. An epoch is as many frames as there are to learn from; seconds are those
    of one core.
    """
    found: dict[str, Row] = {}
    for encoder in ENCODERS[::-1]:
        for bias in (True, False):
            speaker = _speaker(path, encoder, bias, options)
            rows = [_encoder_row(speaker, seed) for seed in range(options.seeds)]
            found[encoder_label(encoder, bias)] = spread_of(rows)
    return found


def encoder_label(encoder: str, bias: bool) -> str:
    """What a row of `encoders` is called."""
    return f"{'MLP' if encoder == 'mlp' else 'Transformer'}, with{'' if bias else 'out'} bias"


def encoder_row(path: Path, encoder: str, bias: bool, seed: int, options: Options) -> Row:
    """One training of a row of `encoders`, from a seed."""
    return _encoder_row(_speaker(path, encoder, bias, options), seed)


def _speaker(path: Path, encoder: str, bias: bool, options: Options) -> Speaker:
    return Speaker(path, options, LandmarkSpeechSizes(encoder, DecoderSizes(alignment_bias=bias)))


def _encoder_row(speaker: Speaker, seed: int) -> Row:
    scene, tuning = speaker.scene, speaker.recipe.landmarks
    data = speaker.data(scene.fit)
    began = time.process_time()
    made = speaker.learn(data, seed)
    spent = time.process_time() - began
    epochs = tuning.steps * tuning.stretches * tuning.stretch / len(scene.fit)
    row = {"seconds_epoch": spent / epochs}
    for name, frames in (("learned", scene.fit), ("unseen", scene.validation)):
        given, wanted = (part[frames].view(1, len(frames), -1, 3) for part in (made, data.codes))
        every = torch.ones(1, len(frames), dtype=torch.bool)
        row[f"loss_{name}"] = 100 * float(landmark_loss(given, wanted, every))
    lips = lip_measures(speaker.lips(made), lips_of(speaker.track), scene.validation)
    return row | {"lips_mm": lips["error"]}


def spread_of(rows: list[Row]) -> Row:
    """Each column's mean, and behind it its standard deviation over the rows where there are several."""
    found: Row = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        found[name] = float(values.mean())
        if len(rows) > 1:
            found[f"{name} ±"] = float(values.std(ddof=1))
    return found


def mouth(path: Path, options: Options) -> dict[str, Row]:
    """Landmarks against motion codes: which tells the mouth better, by what each learns of speech.

    Of the same 20 points of the lips. Frames of the training part are predicted by networks that did not
    learn from them, the held-out part by that of the whole training part. "as trained" is what `nldf train`
    ends with; "plain" has no spread, and for motion codes no pressed lips.
    """
    rows: dict[str, Row] = {}
    speaker = Speaker(path, options)
    training, heldout = speaker.scene.training, speaker.scene.heldout
    real = lips_of(speaker.track)

    def add(label: str, unseen: Lips, final: Lips, true: Lips) -> None:
        rows[label] = {
            f"{name}{end}": value
            for end, made, frames in (("", unseen, training), (" held out", final, heldout))
            for name, value in lip_measures(made, true, frames).items() if name in NAMES
        }  # fmt: skip

    data = speaker.data(training)
    plain = predict_folds(data, speaker.learn)
    still = speaker.lips(torch.zeros_like(data.codes))
    add("mean face", still, still, real)
    opening = opening_of(len(MARKS_SPEECH))
    for label, folds in (
        ("landmarks, plain", plain), ("landmarks, as trained", spread(plain, data.codes, opening)),
    ):  # fmt: skip
        add(label, speaker.lips(folds.unseen), speaker.lips(folds.final), real)
    for label, (folds, basis, codes) in _motion(path, options).items():
        made = [
            Lips(basis.opening(part), basis.decode(part)[:, SAME_LIPS])
            for part in (folds.unseen, folds.final, codes)
        ]
        add(label, *made)
    return rows


def _motion(path: Path, options: Options) -> dict[str, tuple[Folds, MotionBasis, Tensor]]:
    """Predictions of motion codes, their basis, and the tracked codes; by the rows' names."""
    few = {} if options.steps is None else {"speech_steps": options.steps, "adapt_steps": options.steps}
    recipe, frontend = find_preset(MOTION_PRESET).recipe, FrontendConfig("whisper")
    speaker = open_speaker(path, frontend, recipe, options.cache, **few)
    basis, firm = speaker.encoder.basis, speaker.data(speaker.scene.training)
    made = {
        "plain": speaker.folds(dataclasses.replace(firm, codes=speaker.codes)),
        "as trained": spread(speaker.folds(firm), firm.codes, speaker.opening),
    }
    return {f"motion codes, {name}": (folds, basis, speaker.codes) for name, folds in made.items()}
