"""How the plane network is trained: its presets, its loss, its stages."""

from __future__ import annotations

import torch

from nldf_engine.training import Preset, Recipe
from nldf_engine.training.objective import Objective, RayBatches, StepLoss, squared
from nldf_engine.training.recipe import Driving, Sampling
from nldf_engine.training.stages import RayPart, Run, Stage, ray_stages
from plane_mlp import PlaneConfig


class PlaneObjective(Objective):
    """Squared error of pixel and opacity."""

    def __init__(self, part: RayPart) -> None:
        super().__init__()
        self.model, self.recipe = part.target.field, part.recipe
        self._batches = RayBatches(part.target, part.recipe)

    def forward(self, generator: torch.Generator) -> StepLoss:
        """See `Objective`."""
        batch, code = self._batches.draw(generator)
        seen = self.model(batch.rays, code)
        pixel = squared(batch.error(seen)).mean()
        opacity = batch.mask_error(seen.opacity).mean()
        total = pixel + self.recipe.opacity.weight * opacity
        return StepLoss(total, {"pixel": pixel.detach(), "opacity": opacity.detach()})


def stages(run: Run) -> list[Stage]:
    """The stages of every ray field: speech, head, speech again."""
    return ray_stages(run, PlaneObjective)


def plane_mlp() -> Preset:
    """Seconds on a CPU."""
    recipe = Recipe(
        size=32, steps=200, learning_rate=4e-3, sampling=Sampling(rays=1024, frames=4),
        driving=Driving(motion_codes=4, speech_steps=40),
    )  # fmt: skip
    return Preset("plane-mlp", recipe, PlaneConfig)


PRESETS = {"plane-mlp": plane_mlp}
