"""How nldf-fast is trained: as NLDF, with a rate of its own for grids, and a torso layer beside the head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.common.plane_network import refined
from nldf_engine.systems.nldf.objective import light_field_objective
from nldf_engine.systems.nldf.recipe import (
    Distillation,
    LightFieldRecipe,
    Pool,
    RayRegularisation,
    Sharpening,
)
from nldf_engine.systems.nldf_fast.model import GridLightFieldConfig
from nldf_engine.training.presets import Preset
from nldf_engine.training.recipe import Driving, OpacityLoss, Sampling, TorsoRecipe, Validation
from nldf_engine.training.stages import Run, Stage, ray_stages

# At 512 pixels a patch shows as much of the face as it costs, softness shows more, and more is to be learned.
FINER = {"sharpening.weight": "0.1", "sharpening.side": "96", "steps": "12000"}
# Hidden layers at such sizes; fewer were not measured there.
FINER_LAYERS = 3
NetworkConfig = Callable[[Bounds, ConditionConfig], GridLightFieldConfig]


def usual_network(bounds: Bounds, conditions: ConditionConfig) -> GridLightFieldConfig:
    """The network of new avatars at the usual size: two hidden layers make colours of what the grids hold.

    A third one adds a third to a ray's products and nothing that can be measured. With one alone pictures are
    as sharp, but lips follow unknown speech less well. The warp net has two as well: with one the head loses
    .3 dB.
    """
    return GridLightFieldConfig(bounds, conditions, layers=2)


@dataclass(frozen=True)
class FastRecipe(LightFieldRecipe):
    """See `LightFieldRecipe`.

    A run over several datasets without `identity_codes`, whose motion codes are of a `shared_basis`, makes a
    start that a new speaker's run may begin with in place of random weights: a mean face that speaks.

    Args:
        grid_learning_rate: of feature grids, decayed by the same factor as the networks' rate.
    """

    torsos: ClassVar[tuple[str, ...]] = ("plate", "layer")
    uses_base: ClassVar[bool] = True

    grid_learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.grid_learning_rate <= 1:
            rate = self.grid_learning_rate
            raise ValueError(f"grid_learning_rate: expected more than 0 and at most 1, got {rate}")

    @property
    def grid_rate(self) -> float:
        """See `Recipe`."""
        return self.grid_learning_rate


def stages(run: Run) -> list[Stage]:
    """Speech, then head and torso layer together, on grids as fine as the pictures, and with the layers that
    these take."""
    run.preset = dataclasses.replace(run.preset, config=network_of_size(run.preset.config, run.recipe.size))
    return ray_stages(run, light_field_objective)


def network_of_size(config: NetworkConfig, width: int) -> NetworkConfig:
    """Configurations with further levels where pictures of that width show more than a preset's grids, and
    then with `FINER_LAYERS` hidden layers where the preset has fewer."""

    def make(bounds: Bounds, conditions: ConditionConfig) -> GridLightFieldConfig:
        own = config(bounds, conditions)
        resolutions = refined(own.resolutions, width)
        layers = own.layers if resolutions == own.resolutions else max(own.layers, FINER_LAYERS)
        return dataclasses.replace(own, resolutions=resolutions, layers=layers)

    return make


def fast_recipe() -> FastRecipe:
    """The recipe of nldf-fast."""
    return FastRecipe(
            size=256, steps=8000, final_share=0.5, learning_rate=2e-3, final_learning_rate=6e-5,
            grid_learning_rate=0.04,
            sampling=Sampling(
                rays=8192, frames=8, face_share=0.42, mouth_share=0.3, eyes_share=0.12, person_share=0.46,
                frame_share=0.12, blink_share=0.05,
            ),
            opacity=OpacityLoss(0.02, outside_weight=2.0, inside_weight=8.0),
            driving=Driving(motion_codes=8, upper_codes=8),
            torso=TorsoRecipe("layer"),
            pool=Pool(on=False),
            regularisation=RayRegularisation(charbonnier=0.03, correction=3e-5, ray_jitter=5e-4),
            sharpening=Sharpening(0.05),
    )  # fmt: skip


def nldf_fast() -> Preset:
    """The grid-encoded light field with a learned torso: minutes on a CPU."""
    return Preset("nldf-fast", fast_recipe(), usual_network, sizes={256: {}, 512: FINER})


def nldf_fast_tiny() -> Preset:
    """A grid-encoded light field for tests: seconds, not minutes."""
    recipe = fast_recipe()
    return Preset(
        "nldf-fast",
        dataclasses.replace(
            recipe, size=32, steps=120,
            sampling=dataclasses.replace(recipe.sampling, rays=1024, frames=4),
            driving=dataclasses.replace(
                recipe.driving, motion_codes=4, upper_codes=4, speech_steps=8, adapt_steps=8, sound_copies=1
            ),
            validation=Validation(5, 3), distillation=Distillation(frames=8), sharpening=Sharpening(),
        ),
        lambda bounds, conditions: dataclasses.replace(
            usual_network(bounds, conditions), resolutions=(8, 16, 32), warp_resolutions=(8, 16), ambient=2,
            width=32,
        ),
    )  # fmt: skip


PRESETS: dict[str, Callable[[], Preset]] = {"nldf-fast": nldf_fast, "nldf-fast-tiny": nldf_fast_tiny}
