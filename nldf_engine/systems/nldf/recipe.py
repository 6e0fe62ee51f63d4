"""How NLDF is trained: from the video and, segment by segment, from a teacher (nldf 3.3 to 3.5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from nldf_engine.systems.nldf.model import LightFieldConfig
from nldf_engine.systems.nldf.objective import light_field_objective
from nldf_engine.training.presets import Preset
from nldf_engine.training.recipe import (
    Driving,
    Recipe,
    Sampling,
    TorsoRecipe,
    Validation,
    check_range,
    check_weights,
)
from nldf_engine.training.stages import Run, Stage, ray_stages


@dataclass(frozen=True)
class Distillation:
    """Learning from a teacher's segment colours (nldf 3.4).

    Args:
        on: use them where a teacher is given.
        segment_weight: lambda of eq. (9).
        frames: how many frames, evenly spread, the teacher renders.
    """

    on: bool = True
    segment_weight: float = 0.2
    frames: int = 200

    def __post_init__(self) -> None:
        check_range("distilled_frames", self.frames, 1, 10**6)
        check_weights(segment_weight=self.segment_weight)


@dataclass(frozen=True)
class Pool:
    """The active pool of hard rays (nldf 3.5).

    Args:
        on: train on it as well.
        capacity, batch: rays that it holds, and that a step draws from it.
        share: j, the share of a step's rays, highest loss first, that enters it.
    """

    on: bool = True
    capacity: int = 65536
    batch: int = 1024
    share: float = 0.1

    def __post_init__(self) -> None:
        check_range("pool_capacity", self.capacity, 1, 1 << 24)
        check_range("pool_batch", self.batch, 1, 1 << 20)
        if not 0 < self.share <= 1:
            raise ValueError(f"pool_share: expected more than 0 and at most 1, got {self.share}")


@dataclass(frozen=True)
class RayRegularisation:
    """What keeps a light field from learning the pose instead of the speech, and from blur.

    Args:
        charbonnier: weight of sqrt(e^2 + 1e-6) beside the squared error of a colour.
        correction: weight of the squared size of the training frames' own corrections (6 numbers a frame that
            move what a frame sees of the head's plane, for residual tracking errors); 0 trains none. They are
            no part of the avatar.
        ray_jitter: standard deviation, metres, by which the cameras are moved while training, so that the
            field follows the speech and not the pose (`systems.nldf.objective.rays.LightFieldLoss`).
    """

    charbonnier: float = 0.0
    correction: float = 0.0
    ray_jitter: float = 0.0

    def __post_init__(self) -> None:
        check_weights(charbonnier=self.charbonnier, correction=self.correction, ray_jitter=self.ray_jitter)


@dataclass(frozen=True)
class Sharpening:
    """Patches that are compared as people see them, by LPIPS over AlexNet, beside single rays.

    Squared errors of single rays are least where every uncertain edge is blurred; a distance of patches says
    that texture is missing.

    Args:
        weight: of the distance in the loss; 0 for none.
        begin: the share of the budget from which on.
        patches: a step, each of another frame; their rays count as the drawn ones do.
        side: of a patch, rays; neighbouring rays are neighbouring pixels.
        mouth_share, eyes_share: shares of the patches about lips and about an eye; the others lie about any
            place of the speaker.
    """

    weight: float = 0.0
    begin: float = 0.5
    patches: int = 1
    side: int = 64
    mouth_share: float = 0.2
    eyes_share: float = 0.15

    def __post_init__(self) -> None:
        check_weights(**{"sharpening.weight": self.weight})
        check_range("sharpening.begin", self.begin, 0, 1)
        check_range("sharpening.patches", self.patches, 1, 1024)
        check_range("sharpening.side", self.side, 32, 1024)
        check_range("sharpening.mouth_share", self.mouth_share, 0, 1)
        check_range("sharpening.eyes_share", self.eyes_share, 0, 1 - self.mouth_share)


@dataclass(frozen=True)
class LightFieldRecipe(Recipe):
    """See `Recipe`, `Distillation`, `Pool`, `RayRegularisation` and `Sharpening`."""

    torsos: ClassVar[tuple[str, ...]] = ("plate", "layer", "field", "distilled")
    short_names: ClassVar[dict[str, str]] = Recipe.short_names | {
        "distillation": "distillation.on", "distilled_frames": "distillation.frames",
        "active_pool": "pool.on", "pool_capacity": "pool.capacity", "pool_batch": "pool.batch",
        "pool_share": "pool.share",
    }  # fmt: skip

    distillation: Distillation = field(default_factory=Distillation)
    pool: Pool = field(default_factory=Pool)
    regularisation: RayRegularisation = field(default_factory=RayRegularisation)
    sharpening: Sharpening = field(default_factory=Sharpening)

    def for_torso(self) -> LightFieldRecipe:
        """See `Recipe`; what holds for the head's poses alone is off."""
        own = dataclasses.replace(self.regularisation, correction=0.0, ray_jitter=0.0)
        return dataclasses.replace(super().for_torso(), regularisation=own, sharpening=Sharpening())


def stages(run: Run) -> list[Stage]:
    """Speech, head and torso; a torso layer is trained along with the head."""
    return ray_stages(run, light_field_objective)


def nldf_88() -> Preset:
    """NLDF as in the paper: 88 layers of 256, 16 beam points, 4 segments."""
    recipe = LightFieldRecipe(
        size=512,
        steps=600_000,
        torso=TorsoRecipe("distilled", steps=300_000),
        distillation=Distillation(frames=2000),
    )
    return Preset("nldf", recipe, LightFieldConfig)


def nldf_small() -> Preset:
    """NLDF for a CPU: 18 layers of 128, encoded beams."""
    return Preset(
        "nldf",
        LightFieldRecipe(
            size=128, steps=8000, learning_rate=1e-3, final_learning_rate=3e-5,
            sampling=Sampling(rays=2048, frames=4, face_share=0.8, mouth_share=0.15),
            driving=Driving(motion_codes=8, audio_noise=0.2),
            torso=TorsoRecipe("distilled", steps=2500),
            distillation=Distillation(frames=120), pool=Pool(batch=512),
        ),
        lambda bounds, conditions: LightFieldConfig(
            bounds, conditions, width=128, depth=18, points=6, frequencies=8
        ),
    )  # fmt: skip


def nldf_tiny() -> Preset:
    """A light field for tests: seconds, not minutes."""
    return Preset(
        "nldf",
        LightFieldRecipe(
            size=32, steps=120, learning_rate=3e-3,
            sampling=Sampling(rays=512, frames=2, mouth_share=0.15),
            driving=Driving(motion_codes=4, speech_steps=8, adapt_steps=8, sound_copies=1),
            validation=Validation(5, 3),
            torso=TorsoRecipe("distilled", steps=40),
            distillation=Distillation(frames=8), pool=Pool(capacity=2048, batch=128),
        ),
        lambda bounds, conditions: LightFieldConfig(
            bounds, conditions, width=32, depth=6, points=4, frequencies=4
        ),
    )  # fmt: skip


PRESETS: dict[str, Callable[[], Preset]] = {
    "nldf-88": nldf_88,
    "nldf-small": nldf_small,
    "nldf-tiny": nldf_tiny,
}
