"""How a light field sees a batch while it is trained: moved rays, culled rays, a torso learned along."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.rendering.fields import RayColors, Rays
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.nldf.model import LightField
from nldf_engine.systems.nldf_fast.model import GridLightField
from nldf_engine.training.corrections import FrameCorrections
from nldf_engine.training.parts import Part, ask
from nldf_engine.training.presets import Recipe
from nldf_engine.training.scene import Batch, TrainingScene

# Beside the whole speaker's mask, head and torso are told apart by this share of its weight; the neck, which
# lies between them, may be in either.
PARTS_WEIGHT = 0.3
# How much the torso behind the head follows the plate's guess, beside the speaker's mask.
HIDDEN_WEIGHT = 2.0

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


def weigh_mask(error: Tensor, mask: Tensor, batch: Batch, scene: TrainingScene, recipe: Recipe) -> Tensor:
    """The mean of an opacity's squared error [F, P], weighed by where its mask [F, P] is empty and full."""
    outside, inside = recipe.outside_weight, recipe.inside_weight
    if outside != 1:
        error = error * (outside + (1 - outside) * mask)
    if inside != 1:
        error = error * (1 + (inside - 1) * mask * scene.deep(batch.frames, batch.pixels))
    return error.mean()


class Look:
    """A batch's colours as the portrait gives them, and how they and the opacity differ from the video.

    Args:
        part: the light field and what it sees.
        recipe: its noise, shares and weights.
        torso: the layer that is learned along, or None.
    """

    def __init__(self, part: Part, recipe: Recipe, torso: TorsoLayer | None) -> None:
        self.part, self.scene, self.recipe, self.torso = part, part.scene, recipe, torso
        self.model: LightField | GridLightField = part.field
        scene = part.scene
        self.corrections: FrameCorrections | None = None
        if recipe.correction:
            radius = self.model.config.bounds.radius
            self.corrections = FrameCorrections(len(scene.poses), scene.fit, radius).to(scene.device)

    def __call__(self, batch: Batch, code: Tensor) -> tuple[RayColors, Tensor, Tensor]:
        """The field's colours, the error [F, P, 3] of the pixel, and the opacity's mean weighted error."""
        rays = jitter_rays(batch.rays, self.recipe.ray_jitter) if self.recipe.ray_jitter else batch.rays
        if self.corrections is not None:
            rays = self.corrections.move(rays, batch.frames)
        seen = self._culled(rays, code)
        if self.torso is None:
            return seen, batch.error(seen), self._weigh(batch.mask_error(seen.opacity), batch.mask, batch)
        color, alpha = self._torso(batch, self.torso)
        behind = color + (1 - alpha)[..., None] * batch.behind
        both = 1 - (1 - seen.opacity) * (1 - alpha)
        speaker = (batch.labels != LABELS["background"]).float()
        apart = (batch.labels == LABELS["head"]) | (batch.labels == LABELS["torso"])
        parts = self._weigh((seen.opacity - batch.mask).square() * apart, batch.mask, batch)
        opacity = self._weigh((both - speaker).square(), speaker, batch) + PARTS_WEIGHT * parts
        opacity = opacity + HIDDEN_WEIGHT * self._hidden(batch, color, alpha)
        return seen, seen.over(behind) - batch.target, opacity

    def _weigh(self, error: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        return weigh_mask(error, mask, batch, self.scene, self.recipe)

    def _hidden(self, batch: Batch, color: Tensor, alpha: Tensor) -> Tensor:
        """Mean squared difference of the torso to the plate's guess, where the head hides it.

        No frame shows at that moment what is there, and what is told nothing grows as it likes: a head that
        is turned farther than it ever was would uncover it.
        """
        scene, frames = self.scene, batch.frames.cpu()
        points = scene.points(batch.pixels.cpu()) / scene.camera.width
        plate, dense = scene.torso.sample(points, scene.motions[frames], scene.poses[frames])
        plate, dense = (plate * dense[..., None]).to(scene.device), dense.to(scene.device)
        lack = (color - plate).square().sum(-1) + (alpha - dense).square()
        return (lack * (batch.labels == LABELS["head"])).mean()

    def _culled(self, rays: Rays, code: Tensor) -> RayColors:
        """The field where rays may meet the head; nothing elsewhere. Batches of head rays are taken whole."""
        if not self.recipe.person_share and not self.recipe.frame_share:
            return self.model(rays, code)
        return ask(self.model, self.part.region, rays, code)

    def _torso(self, batch: Batch, torso: TorsoLayer) -> tuple[Tensor, Tensor]:
        """The torso's colours, times their opacity, and the opacity."""
        scene = self.scene
        frames = batch.frames.cpu()
        points = scene.points(batch.pixels.cpu()).to(scene.device) / scene.camera.width
        return torso.premultiplied(
            points, scene.motions[frames].to(scene.device), scene.poses[frames].to(scene.device)
        )
