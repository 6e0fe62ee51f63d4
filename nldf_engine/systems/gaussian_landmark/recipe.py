"""How Gaussian landmarks are trained: audio to landmarks, the head's field, the U-Net about it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.nn.autoregressive import DecoderSizes
from nldf_engine.nn.landmarks import LandmarkSpeechSizes
from nldf_engine.nn.perceptual import PictureLoss
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.gaussian_landmark.encoding import ENCODINGS, EncodingSizes
from nldf_engine.systems.gaussian_landmark.model import GaussianField, GaussianFieldConfig
from nldf_engine.systems.gaussian_landmark.objective import PatchLoss
from nldf_engine.training.landmarks import LandmarkTuning, learn_landmarks, learn_landmarks_again
from nldf_engine.training.objective import Objective
from nldf_engine.training.presets import Preset
from nldf_engine.training.public_losses import run_picture_loss
from nldf_engine.training.recipe import (
    Driving,
    Recipe,
    Sampling,
    TorsoRecipe,
    check_range,
    check_weights,
)
from nldf_engine.training.stages import (
    Run,
    Stage,
    Subject,
    bounds_of,
    calibrate,
    conditions_of,
    plate_or_layer,
)
from nldf_engine.training.unet import SMALL_UNET, TINY_UNET, UnetRecipe, wants_unet, with_unet


@dataclass(frozen=True)
class FieldLosses:
    """Weights of eq. (9). The defaults are the paper's.

    Args:
        pixel_weight: lambda 1, of pixels and features together.
        mask_weight: lambda 2, of the mask's cross entropy.
        perceptual_weight: lambda 3, of the perceptual loss within the first.
        perceptual_blocks: blocks of VGG16 that are compared, 1 to 4.
        eye_weight: of the error about the eyes, before its e^(1 - r).
    """

    pixel_weight: float = 10.0
    mask_weight: float = 5.0
    perceptual_weight: float = 0.05
    perceptual_blocks: int = 3
    eye_weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("perceptual_blocks", self.perceptual_blocks, 1, 4)
        names = ("pixel_weight", "mask_weight", "perceptual_weight", "eye_weight")
        check_weights(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Patches:
    """The squares of pixels that a step sees, one a frame.

    Args:
        side: rays along a side.
        largest_scale: most pixels between neighbouring rays; the scale is drawn from 1 on.
        mouth_share, eyes_share: shares of the patches about lips and about an eye; the others lie about any
            place of the head.
    """

    side: int = 64
    largest_scale: float = 8.0
    mouth_share: float = 0.0
    eyes_share: float = 0.0

    def __post_init__(self) -> None:
        check_range("side", self.side, 8, 1024)
        check_range("largest_scale", self.largest_scale, 1, 1024)
        check_range("mouth_share", self.mouth_share, 0, 1)
        check_range("eyes_share", self.eyes_share, 0, 1 - self.mouth_share)


@dataclass(frozen=True)
class MaskCut:
    """When rays beside the head are not evaluated, as shares of the budget.

    Args:
        full: until when none of them is.
        gone: from when all of them are.
    """

    full: float = 0.1
    gone: float = 0.3

    def __post_init__(self) -> None:
        check_range("cut.full", self.full, 0, 1)
        check_range("cut.gone", self.gone, self.full, 1)


@dataclass(frozen=True)
class GaussianRecipe(Recipe):
    """See `Recipe`.

    Args:
        encoding: how landmarks condition the field, the choices of table III: "gaussian" (eq. 8a),
            "gaussian-flat" (without gamma of the depth), "isotropic" (eq. 7), "mlp" or "gamma".
        losses, patches, cut: see there.
        landmarks: how the network from audio to landmarks is trained.
        unet: how the torso's U-Net is trained, for `torso.steps`.
        grid_learning_rate: of the feature grid, decayed by the same factor as the networks' rate.
    """

    torsos: ClassVar[tuple[str, ...]] = ("unet", "plate")
    uses_weights: ClassVar[bool] = True

    encoding: str = "gaussian"
    losses: FieldLosses = field(default_factory=FieldLosses)
    patches: Patches = field(default_factory=Patches)
    cut: MaskCut = field(default_factory=MaskCut)
    landmarks: LandmarkTuning = field(default_factory=LandmarkTuning)
    unet: UnetRecipe = field(default_factory=UnetRecipe)
    grid_learning_rate: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding: expected one of {', '.join(ENCODINGS)}, got {self.encoding!r}")
        check_range("grid_learning_rate", self.grid_learning_rate, 1e-9, 1)

    @property
    def grid_rate(self) -> float:
        """See `Recipe`."""
        return self.grid_learning_rate


class LandmarkTraining:
    """What the stages of a run share beside `Run`.

    Args:
        recipe: the run's.
        perceptual: the loss of features.
        alone: the head is to be without its neck, for a U-Net that completes it.
    """

    def __init__(self, recipe: GaussianRecipe, perceptual: PictureLoss, alone: bool) -> None:
        self.recipe, self.perceptual, self.alone = recipe, perceptual, alone

    def build(self, run: Run) -> None:
        """The speaker's portrait, before the torso's plate at first."""
        scene = run.scenes[0]
        config = run.preset.config(bounds_of(run), conditions_of(run))
        assert isinstance(config, GaussianFieldConfig)
        encoding = dataclasses.replace(config.encoding, kind=self.recipe.encoding)
        network = GaussianField(dataclasses.replace(config, encoding=encoding))
        region = copy.deepcopy(scene.region)
        if self.alone:
            scene.mark(region, lambda number: scene.labels[number] == LABELS["head"], scene.rays)
        run.subjects.append(Subject(scene, Portrait(RayHead(network, region), plate_or_layer(scene))))
        run.subjects[0].portrait.to(run.device)

    def learn_landmarks(self, run: Run) -> None:
        """Stage 1, and the scales that follow from its landmarks."""
        subject = run.subjects[0]
        driver = subject.portrait.head.driver
        learn_landmarks(driver, subject.scene, self.recipe, self.recipe.landmarks, "head" in run.begun)
        calibrate(subject.portrait, run.scenes)

    def learn_landmarks_again(self, run: Run) -> None:
        """Stage 1 once more, on all of the training part."""
        subject = run.subjects[0]
        learn_landmarks_again(subject.portrait.head.driver, subject.scene, self.recipe, self.recipe.landmarks)

    def objective(self, run: Run, subject: Subject) -> Objective:
        """The loss of the field."""
        return PatchLoss(subject, self.recipe, self.perceptual.to(run.device), self.alone)


def stages(run: Run) -> list[Stage]:
    """Audio to landmarks; the head's field; the U-Net where one is wanted; audio to landmarks once more.

    Raises:
        FileProblem: the folder of weights, or VGG16's file in it, can't be used.
        ValueError: several datasets, or a network from elsewhere.
    """
    recipe = run.recipe
    assert isinstance(recipe, GaussianRecipe)
    if run.source is not None:
        raise ValueError("teacher, head: gaussian-landmark learns from its video alone, expected none")
    if len(run.scenes) > 1:
        raise ValueError(f"dataset: gaussian-landmark learns one speaker, got {len(run.scenes)} datasets")
    losses = recipe.losses
    perceptual = run_picture_loss(run, losses.perceptual_blocks, bool(losses.perceptual_weight))
    training = LandmarkTraining(recipe, perceptual, wants_unet(run))
    found = [
        Stage("landmarks", training.build, start=training.learn_landmarks),
        Stage("head", objective=training.objective, seed=1, keeps=True),
        Stage("landmarks-final", start=training.learn_landmarks_again, seed=3),
    ]
    return with_unet(run, found, perceptual)


def gaussian_landmark() -> Preset:
    """Gaussian landmarks at the paper's sizes, 512 x 512; for a GPU."""
    recipe = GaussianRecipe(
        size=512, steps=300_000, final_learning_rate=5e-5, sampling=Sampling(frames=1),
        torso=TorsoRecipe("unet", steps=100_000),
    )  # fmt: skip
    return Preset("gaussian-landmark", recipe, GaussianFieldConfig)


def gaussian_landmark_small() -> Preset:
    """Gaussian landmarks for a CPU: 128 x 128."""
    recipe = GaussianRecipe(
        size=128, steps=2400, learning_rate=2e-3, final_learning_rate=2e-4, grid_learning_rate=1e-2,
        sampling=Sampling(frames=2, blink_share=0.08),
        patches=Patches(32, 3.0, 0.3, 0.1), landmarks=LandmarkTuning(steps=120, rate=2e-3, stretch=100),
        torso=TorsoRecipe("unet", steps=500),
        unet=SMALL_UNET,
    )  # fmt: skip
    return Preset(
        "gaussian-landmark", recipe,
        lambda bounds, conditions: GaussianFieldConfig(
            bounds, conditions, thinned=True, resolutions=(8, 12, 17, 25, 36, 52, 76, 110), log2_table=17,
            width=48, geometry=16, samples=24,
            encoding=EncodingSizes(levels=1, carries=True, components=6),
        ),
    )  # fmt: skip


def gaussian_landmark_tiny() -> Preset:
    """Gaussian landmarks for tests: seconds, not minutes."""
    small = gaussian_landmark_small().recipe
    assert isinstance(small, GaussianRecipe)
    recipe = dataclasses.replace(
        small, size=32, steps=80, learning_rate=4e-3, patches=Patches(16, 2.0),
        driving=Driving(prior=False, sound_copies=1),
        landmarks=LandmarkTuning(steps=20, rate=2e-3, stretch=50),
        torso=TorsoRecipe("unet", steps=40),
        unet=TINY_UNET,
    )  # fmt: skip
    return Preset(
        "gaussian-landmark", recipe,
        lambda bounds, conditions: GaussianFieldConfig(
            bounds, conditions, LandmarkSpeechSizes(decoder=DecoderSizes(16, 2, 32)), thinned=True,
            resolutions=(8, 16, 32), width=24, geometry=8, samples=12,
            encoding=EncodingSizes(size=0.05, components=2),  # a pixel is a centimetre here
        ),
    )  # fmt: skip


PRESETS: dict[str, Callable[[], Preset]] = {
    "gaussian-landmark": gaussian_landmark,
    "gaussian-landmark-small": gaussian_landmark_small,
    "gaussian-landmark-tiny": gaussian_landmark_tiny,
}
