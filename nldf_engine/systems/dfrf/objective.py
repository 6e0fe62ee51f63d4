"""DFRF's loss (dfrf eq. 9): AD-NeRF's, and the length of the warp's offsets where nothing dense is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.rendering.fields import RayColors
from nldf_engine.systems.adnerf.objective import RadianceObjective
from nldf_engine.systems.dfrf.model import ReferenceField
from nldf_engine.systems.dfrf.references import References
from nldf_engine.training.scene import Batch, RayScene
from nldf_engine.training.targets import TrainTarget

# Keeps the gradient of a length defined at zero.
TINY = 1e-12


class ReferenceObjective(RadianceObjective):
    """Eq. (9) on drawn rays, with references that are drawn too.

    A step looks up the avatar's own references, or as many other frames of the same video, never one of those
    that it renders.

    Args:
        target: the head's field and what it sees.
        recipe: a `ReferenceRecipe`.
        warp_from: share of the budget from which on offsets are applied.

    Raises:
        TypeError: the target is another kind of field.
    """

    def __init__(self, target: TrainTarget, recipe: Any, warp_from: float) -> None:
        super().__init__(target, recipe)
        self.settings = recipe.references
        if not isinstance(target.field, ReferenceField):
            raise TypeError(f"target: expected a ReferenceField, got {type(target.field).__name__}")
        # A whole frame costs as much as some steps: validation leaves out what it does not see.
        target.field.sparse = True
        self.reference_field, self.scene, self.warp_from = target.field, target.scene, warp_from

    def look(
        self, batch: Batch, code: Tensor, generator: torch.Generator
    ) -> tuple[RayColors, RayColors, dict[str, tuple[float, Tensor]]]:
        """See `RadianceObjective`."""
        field = self.reference_field
        field.warping = self.share >= self.warp_from
        maps = field.maps(self.references(batch.frames.cpu(), generator), bends=True)
        fine, coarse = field.passes(batch.rays, code, generator, maps)
        if not maps.bends:
            return fine, coarse, {}
        bounds = field.config.bounds
        stratum = (bounds.far - bounds.near) / field.config.coarse
        bend = torch.cat([bend_loss(*each, stratum) for each in maps.bends]).mean()
        return fine, coarse, {"bend": (self.settings.bend_weight, bend)}

    def references(self, frames: Tensor, generator: torch.Generator) -> References:
        """The references of a step that renders frames [F]."""
        own = self.reference_field.references.references
        pool = self.scene.frame_pool
        others = pool[~torch.isin(pool, frames)]
        order = torch.randperm(len(others), generator=generator)
        draws_own = bool(torch.rand((), generator=generator) < self.settings.own_share)
        if draws_own or len(others) < len(own.poses):
            return own
        chosen = others[order[: len(own.poses)]]
        return references_of(self.scene, chosen, self.settings.cut).to(self.scene.device)


def bend_loss(offsets: Tensor, density: Tensor, stratum: float) -> Tensor:
    """[P], eq. (6): the mean length of a point's offsets [P, R, 2] over the references, times the share of
    light that a sample of its density [P] lets through over `stratum` metres, which the paper writes 1 -
    sigma."""
    lengths = (offsets.square().sum(-1) + TINY).sqrt().mean(1)
    return torch.exp(-density * stratum) * lengths


def references_of(scene: RayScene, frames: Tensor, cut: bool) -> References:
    """Frames [N] of a video as references.

    Args:
        scene: the video.
        frames: their numbers.
        cut: make black what is neither head nor neck.
    """
    pictures = scene.frames[frames]
    if cut:
        labels = scene.labels[frames]
        inside = (labels == LABELS["head"]) | (labels == LABELS["neck"])
        pictures = pictures * inside[..., None]
    view = scene.camera.intrinsics() / scene.camera.width
    return References(pictures, scene.poses[frames], view.view(1, 4).repeat(len(frames), 1))
