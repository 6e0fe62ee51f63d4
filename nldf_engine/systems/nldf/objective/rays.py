"""A batch of a light field as it is seen in training: moved and culled rays, a torso learned along."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.nn.noise import normal_like
from nldf_engine.rendering.fields import RayColors, Rays
from nldf_engine.rendering.query import query_region
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.training.corrections import FrameCorrections
from nldf_engine.training.objective import weigh_opacity
from nldf_engine.training.scene import Batch
from nldf_engine.training.targets import TrainTarget

# The masks of head and torso are weighted by this share of the whole speaker's mask; the neck, between them,
# may be in either.
PARTS_WEIGHT = 0.3
# How much the torso behind the head follows the plate's guess, beside the speaker's mask.
HIDDEN_WEIGHT = 2.0
# Where faces are on the average, metres in head space (the face looks towards -z).
FACE_DEPTH = -0.04


def jitter_rays(rays: Rays, metres: float, generator: torch.Generator) -> Rays:
    """The rays seen from a camera that is moved a little, through the same points of the face.

    A frame's rays tell its pose exactly, and a light field can learn a frame's mouth by its pose instead
    of by its speech. Moved by more than what is between neighbouring poses, they no longer do; colours
    stay, since the face is close to the plane about which the rays turn.

    Args:
        rays: [F, P].
        metres: standard deviation of the camera's move, one move a frame.
        generator: draws it.
    """
    distance = (FACE_DEPTH - rays.origins[..., 2:]) / rays.directions[..., 2:]
    points = rays.origins + distance * rays.directions
    move = metres * normal_like(rays.origins.new_empty(len(rays.origins), 1, 3), generator)
    origins = rays.origins + move
    return Rays(origins, torch.nn.functional.normalize(points - origins, dim=-1), rays.axes)


class LightFieldLoss(nn.Module):
    """A batch as the light field sees it in training: moved rays, culled rays, a torso learned along with it.

    Args:
        target: the light field and what it sees.
        recipe: a `LightFieldRecipe`: noise, shares and weights.
        torso: the layer that is learned along with it, or None.
    """

    def __init__(self, target: TrainTarget, recipe: Any, torso: TorsoLayer | None) -> None:
        super().__init__()
        self.target, self.scene, self.recipe = target, target.scene, recipe
        self.model, self.torso = target.field, torso
        self.corrections: FrameCorrections | None = None
        if recipe.regularisation.correction:
            scene, radius = target.scene, self.model.config.bounds.radius
            self.corrections = FrameCorrections(len(scene.poses), scene.fit, radius).to(scene.device)

    def forward(
        self, batch: Batch, code: Tensor, generator: torch.Generator
    ) -> tuple[RayColors, Tensor, Tensor]:
        """The field's colours, the error [F, P, 3] of the pixel, and the opacity's mean weighted error."""
        rays, jitter = batch.rays, self.recipe.regularisation.ray_jitter
        if jitter:
            rays = jitter_rays(rays, jitter, generator)
        if self.corrections is not None:
            rays = self.corrections.move(rays, batch.frames)
        seen = self._culled(rays, code)
        if self.torso is None:
            return seen, batch.error(seen), self._weigh(batch.mask_error(seen.opacity), batch.mask, batch)
        color, alpha = self._torso(batch, self.torso, generator)
        behind = color + (1 - alpha)[..., None] * batch.behind
        both = 1 - (1 - seen.opacity) * (1 - alpha)
        speaker = (batch.labels != LABELS["background"]).float()
        apart = (batch.labels == LABELS["head"]) | (batch.labels == LABELS["torso"])
        parts = self._weigh((seen.opacity - batch.mask).square() * apart, batch.mask, batch)
        opacity = self._weigh((both - speaker).square(), speaker, batch) + PARTS_WEIGHT * parts
        opacity = opacity + HIDDEN_WEIGHT * self._hidden(batch, color, alpha)
        return seen, seen.over(behind) - batch.target, opacity

    def _weigh(self, error: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        return weigh_opacity(error, mask, batch, self.recipe.opacity)

    def _hidden(self, batch: Batch, color: Tensor, alpha: Tensor) -> Tensor:
        """Mean squared difference of the torso to the plate's guess, where the head hides it.

        No frame shows at that moment what is there, and what has no target grows at random: a head that is
        turned farther than it ever was would uncover it.
        """
        scene = self.scene
        plate, dense = scene.plate(*batch.on_host)
        plate, dense = (plate * dense[..., None]).to(scene.device), dense.to(scene.device)
        residual = (color - plate).square().sum(-1) + (alpha - dense).square()
        return (residual * (batch.labels == LABELS["head"])).mean()

    def _culled(self, rays: Rays, code: Tensor) -> RayColors:
        """The field where rays may meet the head, zero elsewhere. Batches of head rays are taken whole."""
        if not self.recipe.sampling.whole_frame:
            return self.model(rays, code)
        return query_region(self.model, self.target.region, rays, code)

    def _torso(self, batch: Batch, torso: TorsoLayer, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The torso's colours, times their opacity, and the opacity."""
        scene, (frames, pixels) = self.scene, batch.on_host
        points = scene.points(pixels).to(scene.device) / scene.camera.width
        motions, poses = scene.motions[frames].to(scene.device), scene.poses[frames].to(scene.device)
        return torso.premultiplied(points, motions, poses, generator if torso.training else None)
