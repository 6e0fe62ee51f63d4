"""AD-NeRF's loss (ad_nerf eq. 4)."""

from __future__ import annotations

import torch

from nldf_engine.systems.adnerf.model import RadianceField
from nldf_engine.training.objective import Objective, RayBatches, StepLoss, squared, weigh_opacity
from nldf_engine.training.recipe import Recipe
from nldf_engine.training.targets import TrainTarget


class RadianceObjective(Objective):
    """Squared error of both passes in front of what is behind, and the opacity's.

    Args:
        target: the radiance field, head's or torso's, and what it sees.
        recipe: weights and shares.

    Raises:
        TypeError: the target is no radiance field.
    """

    def __init__(self, target: TrainTarget, recipe: Recipe) -> None:
        super().__init__()
        if not isinstance(target.field, RadianceField):
            raise TypeError(f"target: expected a RadianceField, got {type(target.field).__name__}")
        self.model, self.recipe = target.field, recipe
        self._batches = RayBatches(target, recipe)

    def forward(self, generator: torch.Generator) -> StepLoss:
        """See `Objective`."""
        batch, code = self._batches.draw(generator)
        fine, coarse = self.model.passes(batch.rays, code, generator)
        pixel, rough = (squared(batch.error(seen)).mean() for seen in (fine, coarse))
        errors = batch.mask_error(fine.opacity) + batch.mask_error(coarse.opacity)
        mask = weigh_opacity(errors, batch.mask, batch, self._batches.scene, self.recipe.opacity)
        total = pixel + rough + self.recipe.opacity.weight * mask
        return StepLoss(total, {"pixel": pixel.detach(), "coarse": rough.detach(), "opacity": mask.detach()})
