"""How a light field sees a batch while it is trained: moved rays, culled rays, a torso learned along."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.data.dataset import LABELS
from nldf_engine.models.fast import GridLightField
from nldf_engine.models.nldf import LightField
from nldf_engine.rendering.fields import RayColors, Rays
from nldf_engine.rendering.torso_layer import TorsoLayer
from nldf_engine.training.corrections import FrameCorrections
from nldf_engine.training.presets import Recipe
from nldf_engine.training.scene import Batch, TrainingScene

# Beside the whole speaker's mask, head and torso are told apart by this share of its weight; the neck, which
# lies between them, may be in either.
PARTS_WEIGHT = 0.3

# Where faces are on the average, metres in head space (the face looks towards -z).
FACE_DEPTH = -0.04


def jitter_rays(rays: Rays, metres: float) -> Rays:
    """The rays seen from a camera that is moved a little, through the same points of the face.

    A frame's rays tell its pose exactly, and a light field can learn a frame's mouth by its pose instead
    of by its speech. Moved by more than what lies between neighbouring poses, they tell it no more;
    colours stay, since the face is close to the plane about which the rays turn.

    Args:
        rays: [F, P].
        metres: standard deviation of the camera's move, one move a frame.
    """
    distance = (FACE_DEPTH - rays.origins[..., 2:]) / rays.directions[..., 2:]
    points = rays.origins + distance * rays.directions
    move = metres * torch.randn(len(rays.origins), 1, 3, device=rays.origins.device)
    origins = rays.origins + move
    return Rays(origins, torch.nn.functional.normalize(points - origins, dim=-1))


class Look:
    """A batch's colours as the portrait gives them, and how they and the opacity differ from the video.

    Args:
        model: the light field.
        scene: the training video.
        recipe: its noise, shares and weights.
        torso: the layer that is learned along, or None.
    """

    def __init__(
        self, model: LightField | GridLightField, scene: TrainingScene, recipe: Recipe,
        torso: TorsoLayer | None,
    ) -> None:  # fmt: skip
        self.model, self.scene, self.recipe, self.torso = model, scene, recipe, torso
        self.corrections: FrameCorrections | None = None
        if recipe.correction:
            radius = model.config.bounds.radius
            self.corrections = FrameCorrections(len(scene.poses), scene.fit, radius).to(scene.device)

    def __call__(self, batch: Batch, code: Tensor) -> tuple[RayColors, Tensor, Tensor]:
        """The head's colours, the error [F, P, 3] of the pixel, and the opacity's mean weighted error."""
        rays = jitter_rays(batch.rays, self.recipe.ray_jitter) if self.recipe.ray_jitter else batch.rays
        if self.corrections is not None:
            rays = self.corrections.move(rays, batch.frames)
        seen = self._culled(rays, code)
        if self.torso is None:
            return seen, seen.over(batch.behind) - batch.target, self._weighted(seen.opacity, batch.mask)
        color, alpha = self._torso(batch, self.torso)
        behind = color + (1 - alpha)[..., None] * batch.behind
        both = 1 - (1 - seen.opacity) * (1 - alpha)
        speaker = (batch.labels != LABELS["background"]).float()
        apart = (batch.labels == LABELS["head"]) | (batch.labels == LABELS["torso"])
        parts = ((seen.opacity - batch.mask).square() * apart).mean()
        opacity = self._weighted(both, speaker) + PARTS_WEIGHT * parts
        return seen, seen.over(behind) - batch.target, opacity

    def _weighted(self, opacity: Tensor, mask: Tensor) -> Tensor:
        error = (opacity - mask).square()
        if self.recipe.outside_weight != 1:
            error = error * torch.where(mask > 0, 1.0, self.recipe.outside_weight)
        return error.mean()

    def _culled(self, rays: Rays, code: Tensor) -> RayColors:
        """The field where rays may meet the head; nothing elsewhere. Batches of head rays are taken whole."""
        if not self.recipe.person_share and not self.recipe.frame_share:
            return self.model(rays, code)
        frames, count, _ = rays.origins.shape
        with torch.no_grad():
            chosen = self.scene.region.select(rays.origins, rays.directions).view(-1).nonzero()[:, 0]
        if isinstance(self.model, GridLightField):
            seen = self.model.of_chosen(rays, code, chosen)
        else:
            kept = Rays(rays.origins.flatten(0, 1)[chosen, None], rays.directions.flatten(0, 1)[chosen, None])
            seen = self.model(kept, code[chosen // count])
            seen = RayColors(seen.segments[:, 0], seen.opacity[:, 0])
        segments = seen.segments.new_zeros(frames * count, *seen.segments.shape[1:])
        opacity = seen.opacity.new_zeros(frames * count)
        segments = segments.index_copy(0, chosen, seen.segments)
        opacity = opacity.index_copy(0, chosen, seen.opacity)
        return RayColors(segments.view(frames, count, -1, 3), opacity.view(frames, count))

    def _torso(self, batch: Batch, torso: TorsoLayer) -> tuple[Tensor, Tensor]:
        """The torso's colours, times their opacity, and the opacity."""
        scene = self.scene
        frames = batch.frames.cpu()
        points = scene.points(batch.pixels.cpu()).to(scene.device) / scene.camera.width
        return torso.premultiplied(
            points, scene.motions[frames].to(scene.device), scene.poses[frames].to(scene.device)
        )
