"""How HeadNeRF is trained: codes of pictures by contrast, the lip sync module, then volume and 2-D
renderer."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from nldf_engine.audio.windows import STRIDE
from nldf_engine.nn.perceptual import PictureLoss
from nldf_engine.rendering.fields import Bounds
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.headnerf.codes import CodeSizes, check_window
from nldf_engine.systems.headnerf.extractor import CodeExtractor
from nldf_engine.systems.headnerf.model import FeatureField, HeadNeRF, HeadNeRFConfig, check_picture
from nldf_engine.systems.headnerf.neural import RendererSizes
from nldf_engine.systems.headnerf.objective import HeadNeRFObjective, later_frames
from nldf_engine.systems.headnerf.objective.contrast import (
    FaceBank,
    References,
    fitted,
    references,
    train_extractor,
)
from nldf_engine.systems.headnerf.objective.faces import light_track
from nldf_engine.systems.headnerf.objective.lips import LipWindows, lip_windows, train_lips
from nldf_engine.systems.headnerf.objective.shapes import FaceShapes
from nldf_engine.systems.headnerf.objective.swaps import Known
from nldf_engine.systems.headnerf.volume import VolumeSizes
from nldf_engine.training.driving import learn_motion, learn_motion_again
from nldf_engine.training.objective import Objective
from nldf_engine.training.presets import Preset
from nldf_engine.training.public_losses import run_picture_loss
from nldf_engine.training.recipe import (
    MOST_STEPS,
    Driving,
    OpacityLoss,
    Recipe,
    Sampling,
    TorsoRecipe,
    Validation,
    check_range,
    check_weights,
)
from nldf_engine.training.stages import (
    OWN_DRIVERS,
    Run,
    Stage,
    Subject,
    bounds_of,
    conditions_of,
    for_speaker,
    plate_or_layer,
)

# Beside what regression finds, the map to expression codes begins with this share of random weights: what the
# extractor does not see must have a way too.
RANDOM_SHARE = 0.5


@dataclass(frozen=True)
class Losses:
    """Weights of the losses (headnerf eq. 2 to 8); the photometric error of eq. (5) counts 1.

    Args:
        perceptual_weight: of eq. (4).
        perceptual_side: of the crops that it looks at, pixels.
        perceptual_share: share of the steps that it is computed in.
        perceptual_blocks: blocks of VGG16 that are compared, 1 to 4.
        disentangle_weight: of eq. (6); 0 leaves the extractor out.
        identity_weight, expression_weight, albedo_weight, illumination_weight: of its four terms, the
            lambdas.
        swap_weight: of the same loss on pictures with an exchanged code, beside those terms.
        swap_share: share of the steps that draw such a picture.
        swap_after: share of the budget behind which they do: of faces that are not drawn yet the extractor
            has nothing to say, and its gradients only hold up what is learned.
        velocity_weight: of eq. (7).
        sync_weight: of eq. (8); 0 leaves the lip sync module out, and the lips' code with it.
        sync_windows: windows of lips that eq. (8) compares in a step.
        detail_weight: how much more the photometric error counts about lips and eyes.
    """

    perceptual_weight: float = 1.0
    perceptual_side: int = 224
    perceptual_share: float = 1.0
    perceptual_blocks: int = 4
    disentangle_weight: float = 5.0
    identity_weight: float = 0.02
    expression_weight: float = 0.02
    albedo_weight: float = 0.02
    illumination_weight: float = 0.02
    swap_weight: float = 0.01
    swap_share: float = 0.25
    swap_after: float = 0.2
    velocity_weight: float = 10.0
    sync_weight: float = 1.0
    sync_windows: int = 24
    detail_weight: float = 1.0

    def __post_init__(self) -> None:
        names = ["perceptual", "disentangle", "velocity", "sync", "detail", "swap"]
        names += ["identity", "expression", "albedo", "illumination"]
        check_weights(**{f"{name}_weight": getattr(self, f"{name}_weight") for name in names})
        check_range("perceptual_share", self.perceptual_share, 0, 1)
        check_range("swap_share", self.swap_share, 0, 1)
        check_range("swap_after", self.swap_after, 0, 1)
        check_range("perceptual_side", self.perceptual_side, 16, 2048)
        check_range("perceptual_blocks", self.perceptual_blocks, 1, 4)
        check_range("sync_windows", self.sync_windows, 2, 4096)


@dataclass(frozen=True)
class HeadNeRFRecipe(Recipe):
    """See `Recipe`.

    Args:
        losses: their weights.
        extractor_steps: optimiser steps of the code extractor's pre-training.
        sync_steps: optimiser steps of the lip sync module before the head.
        relight_share: share of the steps that see the head under another light, which the illumination code
            is given.
        reshape_share: share of the steps that see frames in the shape of another speaker of the run, whose
            identity they are given.
        offset_share: share of the steps whose codes hold what each frame shows beyond its tracked numbers;
            the others are as an avatar's frames are.
    """

    torsos: ClassVar[tuple[str, ...]] = ("plate", "layer")
    uses_weights: ClassVar[bool] = True

    losses: Losses = field(default_factory=Losses)
    extractor_steps: int = 1000
    sync_steps: int = 1000
    relight_share: float = 0.3
    reshape_share: float = 0.3
    offset_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("extractor_steps", self.extractor_steps, 1, MOST_STEPS)
        check_range("sync_steps", self.sync_steps, 1, MOST_STEPS)
        check_range("relight_share", self.relight_share, 0, 1)
        check_range("reshape_share", self.reshape_share, 0, 1)
        check_range("offset_share", self.offset_share, 0, 1)
        if not self.driving.motion_codes:
            raise ValueError(
                "motion_codes: the expression is made of tracked motion codes, expected 1 to 64, got 0"
            )


class HeadTraining:
    """What the stages of a run share beside `Run`.

    Args:
        run: the run.
        recipe: its recipe.
        perceptual: the loss of eq. (4).
    """

    def __init__(self, run: Run, recipe: HeadNeRFRecipe, perceptual: PictureLoss) -> None:
        self.recipe, self.perceptual = recipe, perceptual.to(run.device)
        self.known: Known | None = None

    def build(self, run: Run) -> None:
        """One portrait a scene; all share one network, but each speaker's own motion and map to
        expressions."""
        conditions = conditions_of(run)
        if len(run.scenes) > 1:
            # Its own codes tell speakers apart; the setting identity_codes is of systems without such.
            conditions = dataclasses.replace(conditions, speakers=len(run.scenes))
        config = run.preset.config(bounds_of(run), conditions)
        assert isinstance(config, HeadNeRFConfig)
        codes = config.codes if self.recipe.losses.sync_weight else dataclasses.replace(config.codes, lip=0)
        config = dataclasses.replace(config, size=self.recipe.size, codes=codes)
        network = FeatureField(config).to(run.device)
        # Whoever lends a shape, its head must have room.
        region = copy.deepcopy(run.scenes[0].region)
        for scene in run.scenes:
            region.include(scene.region)
        for scene in run.scenes:
            own = network
            if scene.identity:
                own = for_speaker(network, (*OWN_DRIVERS, "expression", "usual light"))
            head = HeadNeRF(config, own, copy.deepcopy(region))
            if len(run.scenes) > 1:
                scene.set_track("albedo", torch.full((len(scene.poses),), scene.identity))
            run.subjects.append(Subject(scene, Portrait(head, plate_or_layer(scene)).to(run.device)))

    def learn_motion(self, run: Run) -> None:
        """Motion codes and light of all scenes, and the speech networks."""
        for subject in run.subjects:
            driver, scene = _head(subject).driver, subject.scene
            learn_motion(driver, scene, self.recipe, run.source, "head" in run.begun)
            with torch.no_grad():
                driver.expression.usual.copy_(_face_inputs(subject).mean(0))
        self.measure_light(run)

    @torch.no_grad()
    def measure_light(self, run: Run) -> None:
        """The usual light of each speaker, from the mean of all and without its brightness, and each frame's,
        from the usual."""
        tracks = [light_track(subject.scene) for subject in run.subjects]
        usual = torch.stack(
            [track[subject.scene.fit].mean(0) for track, subject in zip(tracks, run.subjects, strict=True)]
        )
        for subject, track, own in zip(run.subjects, tracks, usual, strict=True):
            subject.scene.set_track("light", track - own)
            slopes = (own - usual.mean(0)).index_fill(0, torch.tensor([0]), 0.0)
            _head(subject).driver.illumination.usual.numbers.copy_(slopes)

    @torch.no_grad()
    def begin_codes(self, subject: Subject, known: References) -> None:
        """Codes begin where the extractor has them: tables at the speaker's, maps by regression on tracked
        numbers."""
        driver, number = _head(subject).driver, subject.scene.identity
        driver.identity.table[number] = known.identity.to(driver.identity.table)
        driver.albedo.table[number] = known.albedo.to(driver.albedo.table)
        weight = driver.expression.linear.weight
        found = fitted(_face_inputs(subject).cpu(), known.expression[subject.scene.fit])
        weight.mul_(RANDOM_SHARE).add_(found.to(weight))

    @torch.no_grad()
    def begin_light(self, subject: Subject, known: Sequence[References]) -> None:
        """The map from light to illumination, which all speakers share, begins as the mean of theirs."""
        weight = _head(subject).driver.illumination.linear.weight
        weight.copy_(torch.stack([one.light_map for one in known]).mean(0))

    def learn_codes(self, run: Run) -> None:
        """The extractor, by contrast; its codes; what the driver begins with. A resumed run has all of it."""
        sizes = _head(run.subjects[0]).config.codes
        scenes = [subject.scene for subject in run.subjects]
        if "head" in run.begun:
            held = {scene.identity: References.unknown(len(scene.frames), sizes) for scene in scenes}
            self.known = Known(CodeExtractor(sizes).eval().requires_grad_(False), held)
            return
        generator = torch.Generator().manual_seed(run.config.seed)
        usual = torch.stack([_usual_light(subject) for subject in run.subjects])
        extractor = train_extractor(FaceBank(scenes, usual), sizes, self.recipe.extractor_steps, generator)
        held = {
            scene.identity: references(extractor, scene, usual[scene.identity], generator) for scene in scenes
        }
        self.known = Known(extractor, held)
        self.begin_light(run.subjects[0], list(held.values()))
        for subject in run.subjects:
            self.begin_codes(subject, held[subject.scene.identity])

    def windows(self, subject: Subject) -> LipWindows | None:
        """The windows of lips and sound of a speaker; None where there is no lip sync module."""
        lip = _head(subject).driver.lip
        return None if lip is None else LipWindows(subject.scene, lip)

    def learn_lips(self, run: Run) -> None:
        """The lip sync module; a resumed run has it."""
        if "head" in run.begun:
            return
        every = [windows for subject in run.subjects if (windows := self.windows(subject)) is not None]
        train_lips(every, self.recipe.sync_steps, torch.Generator().manual_seed(run.config.seed))

    def learn_motion_again(self, run: Run) -> None:
        """The speech networks once more, on all of the training part."""
        for subject in run.subjects:
            learn_motion_again(_head(subject).driver, subject.scene, self.recipe, run.source)

    def objective(self, run: Run, subject: Subject) -> Objective:
        """The loss of a speaker."""
        return HeadNeRFObjective(
            subject, self.recipe, self.known, self.perceptual, self.windows(subject), FaceShapes(run.scenes)
        )


def stages(run: Run) -> list[Stage]:
    """Speech to motion codes; codes of pictures by contrast; the lip sync module; the head; speech once more.

    Raises:
        FileProblem: the folder of weights, or VGG16's file in it, can't be used.
        ValueError: a picture that the upsampling stages can't reach, a video with too few frames for a loss,
            or a network from elsewhere.
    """
    recipe = run.recipe
    assert isinstance(recipe, HeadNeRFRecipe)
    if run.source is not None:
        raise ValueError("teacher, head: headnerf learns from its videos alone, expected none")
    check_pictures(run)
    losses = recipe.losses
    check_frames(run, bool(losses.sync_weight))
    perceptual = run_picture_loss(run, losses.perceptual_blocks, bool(losses.perceptual_weight))
    training = HeadTraining(run, recipe, perceptual)
    found = [Stage("motion", training.build, start=training.learn_motion)]
    if recipe.losses.disentangle_weight:
        found.append(Stage("codes", start=training.learn_codes, seed=4))
    if recipe.losses.sync_weight:
        found.append(Stage("sync", start=training.learn_lips, seed=5))
    head = Stage("head", objective=training.objective, seed=1, keeps=True)
    return [*found, head, Stage("motion-final", start=training.learn_motion_again, seed=3)]


def check_pictures(run: Run) -> None:
    """Checks that the upsampling stages reach the pictures of every scene.

    Raises:
        ValueError: they do not; it names the dataset.
    """
    bounds = Bounds(0.5, 1.0)
    # Before a configuration is made of a size that it can't have.
    levels = run.preset.config(bounds, ConditionConfig()).renderer.stages
    for scene in run.scenes:
        for name, side in (("size", scene.camera.width), ("height", scene.camera.height)):
            try:
                check_picture(name, side, levels)
            except ValueError as error:
                raise ValueError(f"{error} ({scene.dataset.path})") from error


def check_frames(run: Run, lips: bool) -> None:
    """Checks before anything is trained that every scene has the frames that the losses compare.

    Args:
        run: the run.
        lips: whether the lip sync module is trained.

    Raises:
        ValueError: one has no neighbouring frames, or too few windows of lips; it names the dataset.
    """
    for scene in run.scenes:
        later_frames(scene)
        if lips:
            rows = scene.conditions.audio.shape[1]
            check_window(rows)
            lip_windows(scene, rows // STRIDE)


def _head(subject: Subject) -> HeadNeRF:
    head = subject.portrait.head
    assert isinstance(head, HeadNeRF)
    return head


def _usual_light(subject: Subject) -> torch.Tensor:
    """[3], of the speaker, on the CPU."""
    numbers: torch.Tensor = _head(subject).driver.illumination.usual.numbers
    return numbers.cpu()


@torch.no_grad()
def _face_inputs(subject: Subject) -> torch.Tensor:
    """[N, D] what drives the expression in the frames that are trained on."""
    scene = subject.scene
    made: torch.Tensor = _head(subject).driver.face(scene.conditions, scene.fit.to(scene.device))
    return made


def headnerf() -> Preset:
    """HeadNeRF at the paper's sizes: a 64 x 64 map of 256 features to 512 x 512; for a GPU."""
    recipe = HeadNeRFRecipe(
        size=512, steps=800_000, learning_rate=1e-4, final_learning_rate=1e-5,
        sampling=Sampling(frames=2), opacity=OpacityLoss(1.0), driving=Driving(motion_codes=8, upper_codes=4),
        torso=TorsoRecipe("layer"),
    )  # fmt: skip
    return Preset("headnerf", recipe, HeadNeRFConfig)


def headnerf_small() -> Preset:
    """HeadNeRF for a CPU: a 32 x 32 map of 48 features to 128 x 128, in about 25 minutes."""
    recipe = HeadNeRFRecipe(
        size=128, steps=2500, final_share=0.3, learning_rate=3e-3, final_learning_rate=1e-4,
        sampling=Sampling(frames=2, blink_share=0.08),
        opacity=OpacityLoss(0.3, inside_weight=4.0), driving=Driving(motion_codes=8, upper_codes=4),
        losses=Losses(
            perceptual_weight=0.05, perceptual_side=64, perceptual_share=0.5, perceptual_blocks=3,
            detail_weight=3.0,
        ),
        extractor_steps=250, sync_steps=500,
    )  # fmt: skip
    return Preset(
        "headnerf", recipe,
        lambda bounds, conditions: HeadNeRFConfig(
            bounds, conditions, 128, CodeSizes(16, 32, 16, 8, 16), VolumeSizes(96, 5, 2, 6, 1, 24, 48),
            RendererSizes(2, 3),
        ),
    )  # fmt: skip


def headnerf_tiny() -> Preset:
    """HeadNeRF for tests: seconds, not minutes."""
    small = headnerf_small().recipe
    assert isinstance(small, HeadNeRFRecipe)
    recipe = dataclasses.replace(
        small, size=32, steps=60, final_share=0.0, learning_rate=4e-3,
        driving=Driving(motion_codes=4, upper_codes=2, speech_steps=8, adapt_steps=8, sound_copies=1),
        validation=Validation(5, 3),
        losses=dataclasses.replace(small.losses, perceptual_side=32, sync_windows=16),
        extractor_steps=20, sync_steps=20,
    )  # fmt: skip
    return Preset(
        "headnerf", recipe,
        lambda bounds, conditions: HeadNeRFConfig(
            bounds, conditions, 32, CodeSizes(6, 8, 6, 4, 8), VolumeSizes(32, 3, 1, 5, 1, 10, 24),
            RendererSizes(1, 3, 16),
        ),
    )  # fmt: skip


PRESETS: dict[str, Callable[[], Preset]] = {
    "headnerf": headnerf,
    "headnerf-small": headnerf_small,
    "headnerf-tiny": headnerf_tiny,
}
