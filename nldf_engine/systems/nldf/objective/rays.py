"""A batch of a light field as it is seen in training: moved and culled rays, a torso learned along."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.ops import Compared, MatteWeights, aim_rays, compare_matte
from nldf_engine.rendering.fields import RayColors, Rays
from nldf_engine.rendering.query import query_region
from nldf_engine.rendering.torsos import pose_features
from nldf_engine.systems.common.torso_layer import TorsoFrames, TorsoLayer
from nldf_engine.training.corrections import FrameCorrections
from nldf_engine.training.objective import squared, weigh_opacity
from nldf_engine.training.scene import Batch, Tensors
from nldf_engine.training.targets import TrainTarget

# The masks of head and torso are weighted by this share of the whole speaker's mask; the neck, between them,
# may be in either.
PARTS_WEIGHT = 0.3
# How much the torso behind the head follows the plate's guess, beside the speaker's mask.
HIDDEN_WEIGHT = 2.0
MATTE_LABELS = LABELS["background"], LABELS["head"], LABELS["torso"]
# Where faces are on the average, metres in head space (the face looks towards -z).
FACE_DEPTH = -0.04
# What drives a face beside its pose and its speech. Codes of the tracked mouth tell how far off a frame was
# tracked, and those that speech predicts do not: what goes with them is left to the corrections.
DRIVING = "upper", "eyes"


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
        self._kept: tuple[tuple[tuple[Tensor, int], ...], TorsoFrames] | None = None
        self.corrections: FrameCorrections | None = None
        if recipe.regularisation.correction:
            scene, radius = target.scene, self.model.config.bounds.radius
            known = [pose_features(scene.poses)[:, :-1].cpu()]
            for name in DRIVING:
                track = scene.conditions.get(name)
                known += [] if track is None else [track.cpu().reshape(len(scene.poses), -1)]
            corrections = FrameCorrections(
                len(scene.poses), scene.fit, radius, torch.cat(known, 1).nan_to_num(0)
            )
            self.corrections = corrections.to(scene.device)

    def noise(self, frames: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Standard normal noise of so many frames, on the CPU: on the camera's places, where the recipe moves
        them, and on the torso's inputs in training."""
        noise = {}
        if self.recipe.regularisation.ray_jitter:
            noise["jitter"] = torch.randn(frames, 3, generator=generator)
        if self.torso is not None and self.torso.training:
            noise["torso noise"] = torch.randn(frames, len(self.torso.frame_mean), generator=generator)
        return noise

    def forward(
        self, batch: Batch, code: Tensor, noise: Tensors, opacity: float
    ) -> tuple[RayColors, Compared, Tensor | None]:
        """The field's colours; what the batch says to them, with `opacity` the weight of its error; and the
        frames' corrections [F, 6], where there are any. Of `noise` see there; it is on the device."""
        corrections = None if self.corrections is None else self.corrections.of(batch.frames)
        seen = self._seen(batch, code, corrections, noise)
        recipe = self.recipe
        if self.torso is None:
            return seen, self._compared(batch, seen, opacity), corrections
        # Where the head hides the torso no frame shows what is there, and what has no target grows at random:
        # a head that is turned farther than it ever was would uncover it. The plate's guess is its target.
        weights = MatteWeights(
            recipe.opacity.outside_weight, recipe.opacity.inside_weight, PARTS_WEIGHT, HIDDEN_WEIGHT,
            recipe.regularisation.charbonnier, opacity,
        )  # fmt: skip
        compared = compare_matte(
            (seen.segments, seen.opacity), self._torso(batch, self.torso, noise), batch.behind,
            batch.target, batch.mask, batch.interior, batch.plate, batch.labels, MATTE_LABELS, weights,
            backend=self.model.backend,
        )  # fmt: skip
        return seen, compared, corrections

    def _compared(self, batch: Batch, seen: RayColors, weight: float) -> Compared:
        """The same of a field alone: squared error a ray, and a share of the Charbonnier error, which keeps
        edges sharp; and the opacity's."""
        error, charbonnier = batch.error(seen), self.recipe.regularisation.charbonnier
        pixel = squared(error).mean()
        opacity = weigh_opacity(batch.mask_error(seen.opacity), batch.mask, batch, self.recipe.opacity)
        total = pixel + weight * opacity
        if charbonnier:
            total = total + 3 * charbonnier * (error.square() + 1e-6).sqrt().mean()
        return Compared(error, total, pixel.detach(), opacity.detach())

    def _seen(self, batch: Batch, code: Tensor, corrections: Tensor | None, noise: Tensors) -> RayColors:
        """The field where rays may meet the head, zero elsewhere. Batches of head rays are taken whole.

        The rays are seen from a camera that is moved a little, through the same points of the face. A frame's
        rays tell its pose exactly, and a light field can learn a frame's mouth by its pose instead of by its
        speech. Moved by more than what is between neighbouring poses, they no longer do; colours stay, since
        the face is close to the plane about which the rays turn.

        Then they turn to the places that the frames' corrections say. The camera stays where it is: a field
        may look different from every place, and the corrections are not to reveal which frame this is.
        """
        rays, jitter = batch.rays, self.recipe.regularisation.ray_jitter
        whole, region = not self.recipe.sampling.whole_frame, self.target.region
        if not jitter and corrections is None:
            return self.model(rays, code) if whole else query_region(self.model, region, rays, code)
        moves = rays.origins.new_zeros(len(rays.origins), 3)
        if jitter:
            moves = jitter * noise["jitter"]
        turns = moves.new_zeros(len(moves), 6)
        if self.corrections is not None and corrections is not None:
            turns = self.corrections.turns(corrections)
        origins, directions, inside = aim_rays(
            rays.origins.contiguous(), rays.directions, moves, turns, region.occupancy, region.half_size,
            FACE_DEPTH, backend=self.model.backend,
        )  # fmt: skip
        aimed = Rays(origins, directions, rays.axes)
        return self.model(aimed, code) if whole else self.model.of_inside(aimed, code, inside)

    def _torso(self, batch: Batch, torso: TorsoLayer, noise: Tensors) -> tuple[Tensor, Tensor]:
        """The torso's colours, times their opacity, and the opacity."""
        points, frames = batch.points / self.scene.camera.width, self._torso_frames(torso).at(batch.frames)
        return torso.premultiplied(points, frames, noise.get("torso noise"))

    def _torso_frames(self, torso: TorsoLayer) -> TorsoFrames:
        """Of every frame of the video; made again where a checkpoint or a refinement changed it."""
        scene = self.scene
        made_of = (torso.box, torso.frame_mean, torso.frame_scale, scene.motions, scene.poses)
        state = tuple((values, values._version) for values in made_of)
        if self._kept is None or any(
            a is not b or i != j for (a, i), (b, j) in zip(self._kept[0], state, strict=True)
        ):
            self._kept = state, torso.frames_of(scene.motions.to(scene.device), scene.poses.to(scene.device))
        return self._kept[1]
