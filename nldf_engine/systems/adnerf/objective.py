"""AD-NeRF's loss (ad_nerf eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.rendering.fields import RayColors
from nldf_engine.systems.adnerf.model import RadianceField
from nldf_engine.training.objective import Objective, RayBatches, StepLoss, squared, weigh_opacity
from nldf_engine.training.recipe import Recipe
from nldf_engine.training.scene import Batch
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
        fine, coarse, more = self.look(batch, code, generator)
        pixel, rough = (squared(batch.error(seen)).mean() for seen in (fine, coarse))
        errors = batch.mask_error(fine.opacity) + batch.mask_error(coarse.opacity)
        mask = weigh_opacity(errors, batch.mask, batch, self.recipe.opacity)
        total = pixel + rough + self.recipe.opacity.weight * mask
        logged = {"pixel": pixel.detach(), "coarse": rough.detach(), "opacity": mask.detach()}
        for name, (weight, loss) in more.items():
            total, logged[name] = total + weight * loss, loss.detach()
        return StepLoss(total, logged)

    def look(
        self, batch: Batch, code: Tensor, generator: torch.Generator
    ) -> tuple[RayColors, RayColors, dict[str, tuple[float, Tensor]]]:
        """(fine, coarse) colours of a batch under codes [F, C], and further losses: name to weight and
        loss."""
        return *self.model.passes(batch.rays, code, generator), {}
