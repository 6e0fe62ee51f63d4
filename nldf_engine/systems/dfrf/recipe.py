"""How DFRF is trained: a base over several speakers; one speaker from a base or from nothing (dfrf 3.5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from nldf_engine.base.assets import ASSETS
from nldf_engine.base.errors import FileProblem
from nldf_engine.geometry.face_mesh import LOWER_INNER, UPPER_INNER
from nldf_engine.nn.weights import WeightAsset
from nldf_engine.rendering.fields import Bounds, RayField
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.dfrf.choice import choose_frames
from nldf_engine.systems.dfrf.fusion import FusionSizes
from nldf_engine.systems.dfrf.model import MOST_REFERENCES, ReferenceField, ReferenceFieldConfig
from nldf_engine.systems.dfrf.objective import ReferenceObjective, references_of
from nldf_engine.systems.dfrf.references import ExtractorSizes
from nldf_engine.systems.dfrf.warp import WarpSizes
from nldf_engine.training.presets import Preset
from nldf_engine.training.recipe import Driving, Recipe, Sampling, Validation, check_range, check_weights
from nldf_engine.training.scene import RayScene
from nldf_engine.training.stages import Run, Stage, ray_stages

BASE = WeightAsset(
    ASSETS / "dfrf" / "base.safetensors", "ef32065a40ada680d676cbb78e5f929a2c32dbf55fd6c9fb714b38daeec13c03"
)
"""A base of `dfrf-small` that comes with the package, of procedural speakers (assets/README.md)."""


@dataclass(frozen=True)
class ReferenceSettings:
    """Which pictures the field looks up, and how it learns to.

    Args:
        count: N, reference pictures of a speaker (dfrf table 1).
        own_share: share of the steps that look up the pictures that the avatar keeps; the others look up N
            random training frames.
        cut: make black what is neither head nor neck in them; the paper leaves them whole.
        warp: move points in them by audio-conditioned offsets (dfrf 3.3, table 3).
        warp_from: share of the budget from which on it does; a run that begins from a base does at once.
        bend_weight: lambda of eq. (9), of offsets in units of the picture's width.
    """

    count: int = 4
    own_share: float = 0.0
    cut: bool = False
    warp: bool = True
    warp_from: float = 0.75
    bend_weight: float = 5e-8 * 512

    def __post_init__(self) -> None:
        check_range("references.count", self.count, 1, MOST_REFERENCES)
        check_range("own_share", self.own_share, 0, 1)
        check_range("warp_from", self.warp_from, 0, 1)
        check_weights(bend_weight=self.bend_weight)


@dataclass(frozen=True)
class ReferenceRecipe(Recipe):
    """See `Recipe`.

    Args:
        references: see there.
        tuned_rate: Adam's first learning rate of a run that begins from a base.
    """

    torsos: ClassVar[tuple[str, ...]] = ("plate",)
    uses_base: ClassVar[bool] = True

    references: ReferenceSettings = field(default_factory=ReferenceSettings)
    tuned_rate: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("tuned_rate", self.tuned_rate, 1e-9, 1)


def stages(run: Run) -> list[Stage]:
    """Speech, and the head's field; at first without the warp, unless the run begins from a base.

    Raises:
        FileProblem: a dataset with fewer usable frames than references are wanted.
    """
    recipe, made = run.recipe, run.preset.config
    assert isinstance(recipe, ReferenceRecipe)
    settings = recipe.references
    for scene in run.scenes:
        if len(scene.fit) < settings.count:
            raise FileProblem(
                Path(scene.dataset.path),
                f"it has {len(scene.fit)} usable training frames, and {settings.count} references are chosen "
                "from them",
                "prepare a longer video in which the face is seen, or --set references.count=1",
            )

    def config(bounds: Bounds, conditions: ConditionConfig) -> ReferenceFieldConfig:
        given, camera = made(bounds, conditions), run.scenes[0].camera
        return dataclasses.replace(
            given, references=settings.count, picture=(camera.height, camera.width),
            warp=dataclasses.replace(given.warp, on=settings.warp),
        )  # fmt: skip

    if run.base is not None:
        recipe = dataclasses.replace(
            recipe, learning_rate=recipe.tuned_rate,
            final_learning_rate=min(recipe.tuned_rate, recipe.final_learning_rate),
        )  # fmt: skip
    run.preset = dataclasses.replace(run.preset, recipe=recipe, config=config)
    warp_from = settings.warp_from if run.base is None else 0.0
    return ray_stages(
        run, lambda part: ReferenceObjective(part.target, part.recipe, warp_from),
        fill_own=lambda network, scene: keep_references(network, scene, settings),
    )  # fmt: skip


def keep_references(network: RayField, scene: RayScene, settings: ReferenceSettings) -> None:
    """Chooses a speaker's references among the training frames (`choice`), and puts them into the network."""
    assert isinstance(network, ReferenceField)
    dataset, fit = scene.dataset, scene.fit
    lips = torch.from_numpy(dataset.landmarks[fit.numpy()])[:, [UPPER_INNER, LOWER_INNER]].float()
    opening = (lips[:, 1] - lips[:, 0]).norm(dim=1)
    eyes = torch.from_numpy(dataset.eye_openness[fit.numpy()]).float()
    rows = choose_frames(scene.poses[fit], opening, eyes, settings.count)
    network.keep_references(references_of(scene, fit[rows], settings.cut))


def _sizes(
    width: int, depth: int, features: int, channels: int, warp: tuple[int, int], samples: tuple[int, int],
    frequencies: int,
) -> Callable[[Bounds, ConditionConfig], ReferenceFieldConfig]:  # fmt: skip
    """What makes configurations of small fields."""

    def made(bounds: Bounds, conditions: ConditionConfig) -> ReferenceFieldConfig:
        sizes: dict[str, Any] = {"coarse": samples[0], "fine": samples[1], "density": "softplus"}
        return ReferenceFieldConfig(
            bounds, conditions, width=width, depth=depth, skip=depth // 2, view_layers=1,
            position_frequencies=frequencies, direction_frequencies=2, density_scale=40.0, **sizes,
            extractor=ExtractorSizes(features, channels, 3, 3), warp=WarpSizes(warp, 0.02),
            fusion=FusionSizes(2, features, 2, 16),
        )  # fmt: skip

    return made


def dfrf() -> Preset:
    """DFRF as in the paper: four references, 8 x 256, 64 coarse and 128 fine samples; for a GPU."""
    recipe = ReferenceRecipe(size=512, steps=400_000, sampling=Sampling(rays=2048))
    return Preset("dfrf", recipe, ReferenceFieldConfig)


def dfrf_small() -> Preset:
    """DFRF for a CPU: 128 x 128, three references, 6 x 96, 24 coarse and 24 fine samples."""
    recipe = ReferenceRecipe(
        size=128, steps=4000, learning_rate=2e-3, final_learning_rate=1e-4, tuned_rate=1e-3,
        sampling=Sampling(rays=160, frames=2, face_share=0.8, mouth_share=0.15, blink_share=0.08),
        driving=Driving(motion_codes=8, shared_basis=True, identity_codes=0, audio_noise=0.2),
        references=ReferenceSettings(3, own_share=0.5, cut=True, warp_from=0.5, bend_weight=1e-3),
        validation=Validation(times=6, frames=2),
    )  # fmt: skip
    return Preset("dfrf", recipe, _sizes(96, 6, 32, 24, (48, 16), (24, 24), 6), bundled_base=BASE)


def dfrf_tiny() -> Preset:
    """DFRF for tests: seconds, not minutes."""
    small = dfrf_small().recipe
    recipe = dataclasses.replace(
        small, size=32, steps=60, learning_rate=4e-3,
        sampling=Sampling(rays=256, frames=2, mouth_share=0.15),
        driving=Driving(
            motion_codes=4, shared_basis=True, identity_codes=0, speech_steps=8, adapt_steps=8,
            sound_copies=1,
        ),
    )  # fmt: skip
    return Preset("dfrf", recipe, _sizes(24, 3, 12, 8, (16, 8), (8, 8), 4))


PRESETS: dict[str, Callable[[], Preset]] = {
    "dfrf": dfrf,
    "dfrf-small": dfrf_small,
    "dfrf-tiny": dfrf_tiny,
}
