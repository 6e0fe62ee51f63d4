"""How AD-NeRF is trained: the head's field, then the torso's about the finished head (ad_nerf 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from nldf_engine.systems.adnerf.model import RadianceFieldConfig
from nldf_engine.systems.adnerf.objective import RadianceObjective
from nldf_engine.training.presets import Preset
from nldf_engine.training.recipe import Driving, Recipe, Sampling, TorsoRecipe, Validation
from nldf_engine.training.stages import Run, Stage, ray_stages
from nldf_engine.training.unet import SMALL_UNET, TINY_UNET, UnetRecipe, wants_unet, with_unet


@dataclass(frozen=True)
class RadianceRecipe(Recipe):
    """See `Recipe`.

    Args:
        unet: how a U-Net torso is trained, for `torso.steps`.
    """

    torsos: ClassVar[tuple[str, ...]] = ("plate", "field", "distilled", "unet")
    uses_weights: ClassVar[bool] = True

    unet: UnetRecipe = field(default_factory=UnetRecipe)


def stages(run: Run) -> list[Stage]:
    """Speech, head and torso, with one objective for both fields."""
    made = ray_stages(run, lambda part: RadianceObjective(part.target, part.recipe), wants_unet(run))
    return with_unet(run, made)


def adnerf() -> Preset:
    """AD-NeRF as in the paper, head and torso: 8 x 256 each, 64 coarse and 128 fine samples."""
    recipe = RadianceRecipe(
        size=450, steps=400_000, sampling=Sampling(rays=2048), torso=TorsoRecipe("field", steps=400_000)
    )
    return Preset("adnerf", recipe, RadianceFieldConfig)


def adnerf_small() -> Preset:
    """AD-NeRF for a CPU, head and torso: 5 x 64 each, 24 coarse and 24 fine samples."""
    return Preset(
        "adnerf",
        RadianceRecipe(
            size=128, steps=4000, learning_rate=2e-3, final_learning_rate=1e-4,
            sampling=Sampling(rays=1024, frames=4, face_share=0.8, mouth_share=0.15),
            driving=Driving(motion_codes=8, audio_noise=0.2),
            torso=TorsoRecipe("field", steps=1500),
            unet=SMALL_UNET,
        ),
        lambda bounds, conditions: RadianceFieldConfig(
            bounds, conditions, width=64, depth=5, skip=2, view_layers=1, position_frequencies=9,
            direction_frequencies=2, coarse=24, fine=24, density="softplus", density_scale=40.0,
        ),
    )  # fmt: skip


def adnerf_tiny() -> Preset:
    """A radiance field for tests: seconds, not minutes."""
    return Preset(
        "adnerf",
        RadianceRecipe(
            size=32, steps=60, learning_rate=4e-3,
            sampling=Sampling(rays=512, frames=2, mouth_share=0.15),
            driving=Driving(motion_codes=4, speech_steps=8, adapt_steps=8, sound_copies=1),
            validation=Validation(5, 3),
            torso=TorsoRecipe("field", steps=40),
            unet=TINY_UNET,
        ),
        lambda bounds, conditions: RadianceFieldConfig(
            bounds, conditions, width=32, depth=3, skip=1, view_layers=1, position_frequencies=5,
            direction_frequencies=1, coarse=8, fine=8, density="softplus", density_scale=40.0,
        ),
    )  # fmt: skip


PRESETS: dict[str, Callable[[], Preset]] = {
    "adnerf": adnerf,
    "adnerf-small": adnerf_small,
    "adnerf-tiny": adnerf_tiny,
}
