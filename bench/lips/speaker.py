"""A prepared speaker without pictures, and what the tables train on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nldf_engine.audio import FrontendConfig, features
from nldf_engine.datasets import open_dataset
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.rendering.fields import Conditions
from nldf_engine.systems.common.motion import MotionEncoder
from nldf_engine.training.driving import learner, speech_data, speech_net
from nldf_engine.training.motion import fit_basis
from nldf_engine.training.recipe import Recipe, changed
from nldf_engine.training.scene import Scene
from nldf_engine.training.speech import (
    Folds,
    LearnSpeech,
    SpeechData,
    Spread,
    opening_slope,
    predict_folds,
    predictions,
)

CODES, SEED = 8, 0


class Sounds(Scene):
    """A scene that holds sound and codes, and nothing that is seen.

    Args:
        dataset: what `nldf prepare` wrote.
        frontend: how sound becomes features.
        cache: folder where features are kept for the next run; None to keep none.
    """

    def __init__(self, dataset: Dataset, frontend: FrontendConfig, cache: Path | None) -> None:
        self.dataset, self.frontend, self.device = dataset, frontend, torch.device("cpu")
        self.fit, self.validation, self.heldout = (
            torch.from_numpy(dataset.indices(split)) for split in ("fit", "validation", "heldout")
        )
        self.training = torch.cat([self.fit, self.validation])
        self._copies, self._cache = None, cache
        eyes = torch.from_numpy(dataset.eye_openness).float()
        # Not the dataset's own: those it keeps may be of other weights.
        made = self._kept("sound", lambda: features(dataset.audio(), frontend, frames=len(dataset)).copy())
        self.conditions = Conditions(torch.from_numpy(made), eyes)

    def sound_copies(self, count: int) -> Tensor:
        """See `Scene`."""
        if self._copies is None or len(self._copies) != count:
            made = self._kept(f"{count} copies", lambda: Scene.sound_copies(self, count).numpy())
            self._copies = torch.from_numpy(made)
        return self._copies

    def _kept(self, what: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        if self._cache is None:
            return make()
        weights = self.frontend.kind.weights
        told = (what, self.dataset.path, self.frontend, "" if weights is None else weights(self.frontend))
        path = self._cache / f"{hashlib.sha256(repr(told).encode()).hexdigest()[:24]}.npy"
        if not path.is_file():
            self._cache.mkdir(parents=True, exist_ok=True)
            np.save(path, make())
        return np.asarray(np.load(path))


@dataclass
class Speaker:
    """A speaker under one front-end and recipe.

    Args:
        scene: sound and codes.
        recipe: how `nldf train` would learn speech.
        encoder: basis and network of the codes; the network is whatever was trained last.
        codes: [T, K] tracked.
    """

    scene: Sounds
    recipe: Recipe
    encoder: MotionEncoder
    codes: Tensor

    @property
    def opening(self) -> Tensor:
        """[K] metres that the mouth opens by for one of each code."""
        return opening_slope(self.encoder.basis)

    def data(self, frames: Tensor) -> SpeechData:
        """What a network learns from in the frames [N]."""
        return speech_data(self.scene, self.recipe, self.encoder.basis, self.codes, frames)

    def folds(self, data: SpeechData) -> Folds:
        """What networks predict for frames that they did not learn from; see `predict_folds`."""
        return predict_folds(data, predictions(self.encoder, self.learn()))

    def learn(self) -> LearnSpeech:
        """The recipe's own way to train a network from its beginning, the same draws every time."""
        learn = learner(self.scene, self.recipe, self.codes)

        def seeded(encoder: MotionEncoder, data: SpeechData) -> None:
            torch.manual_seed(SEED)
            learn(encoder, data)

        return seeded


def open_speaker(
    path: Path, frontend: FrontendConfig, recipe: Recipe, cache: Path | None = None, **settings: object
) -> Speaker:
    """A dataset as a speaker.

    Args:
        path: folder of `nldf prepare`.
        frontend: how sound becomes features.
        recipe: of the preset.
        cache: see `Sounds`.
        settings: of the recipe, to be changed.
    """
    scene, recipe = Sounds(open_dataset(path), frontend.resolve(), cache), changed(recipe, settings)
    window, dim = scene.conditions.audio.shape[1:]
    encoder = MotionEncoder(CODES, dim, window, speech_net(recipe, scene.frontend))
    codes = fit_basis(encoder.basis, scene.dataset, scene.fit)
    scene.set_track("motion", codes)
    return Speaker(scene, recipe, encoder, codes)


def mapped(folds: Folds, fit: Callable[[Tensor], Callable[[Tensor], Tensor]]) -> Folds:
    """The predictions through a map of codes, which for each fold is fitted on the others.

    Args:
        folds: predictions.
        fit: makes the map from the frames [N] that it may look at, of `unseen`.
    """
    made = folds.unseen.clone()
    for number, part in enumerate(folds.parts):
        others = torch.cat([other for index, other in enumerate(folds.parts) if index != number])
        made[part] = fit(others)(folds.unseen)[part]
    return Folds(folds.parts, made, fit(folds.known)(folds.final))


def spread(folds: Folds, real: Tensor, opening: Tensor | None = None) -> Folds:
    """The predictions with the spread of real codes, as `nldf train` gives it; see `Spread.fitted`.

    Args:
        folds: the predictions.
        real: [T, K] codes that were learned.
        opening: [K], as there.
    """
    return mapped(folds, lambda frames: Spread.fitted(folds.unseen[frames], real[frames], opening))
