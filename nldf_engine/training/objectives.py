"""What is minimised: one objective a system, each a step's loss from a training scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from nldf_engine.models.adnerf import RadianceField
from nldf_engine.models.nldf import LightField
from nldf_engine.nn.audio import neighbour_index
from nldf_engine.rendering.fields import Conditions, RayColors, Rays
from nldf_engine.training.distill import SegmentTargets
from nldf_engine.training.pool import ActivePool
from nldf_engine.training.presets import Recipe
from nldf_engine.training.scene import Batch, TrainingScene


@dataclass(frozen=True)
class StepLoss:
    """A step's loss to differentiate, and figures to log (detached scalars)."""

    total: Tensor
    figures: dict[str, Tensor]


class Objective(Protocol):
    """What the trainer asks of a system."""

    def step(self) -> StepLoss:
        """Draws rays and returns their loss."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors beyond the network's that a resumed run needs."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continues from `state`."""
        ...


def squared(error: Tensor) -> Tensor:
    """Sum over the colour channels of the squared error: [..., 3] to [...]; eq. (8) a ray."""
    return error.square().sum(-1)


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


class _Sampler:
    """Draws a step's frames and rays, and the codes that go with them."""

    def __init__(self, scene: TrainingScene, recipe: Recipe) -> None:
        self.scene, self.recipe = scene, recipe

    def draw(self, first: Tensor | None = None) -> Batch:
        """A batch of `recipe.frames` frames; `first` is a set of which half of them are taken."""
        recipe = self.recipe
        fit = self.scene.fit
        frames = fit[torch.randint(len(fit), (recipe.frames,))]
        if first is not None and len(first):
            # An odd number is rounded up or down in turn by chance: with one frame a step, every other one.
            half = (recipe.frames + int(torch.rand(()) < 0.5)) // 2
            frames[:half] = first[torch.randint(len(first), (half,))]
        return self.scene.sample(
            frames, max(1, recipe.rays // recipe.frames), recipe.face_share, recipe.mouth_share
        )

    def conditions(self, frames: Tensor, neighbours: int) -> Conditions:
        """The clip's conditions, with the recipe's noise on what drives the mouth in `frames`.

        Args:
            frames: [F] frame numbers.
            neighbours: windows about each frame that its code is made of.
        """
        conditions, scale = self.scene.conditions, self.recipe.audio_noise
        if conditions.motion is not None:
            noise = self.recipe.motion_noise * torch.randn_like(conditions.motion)
            return Conditions(conditions.audio, conditions.eyes, conditions.motion + noise)
        if not scale:
            return conditions
        audio = conditions.audio
        if audio.device.type != "cpu":
            # One kernel draws the whole clip; to learn how many windows differ would wait for the device.
            return Conditions(audio + scale * torch.randn_like(audio), conditions.eyes)
        read = neighbour_index(frames.reshape(-1), neighbours, len(audio)).unique()
        read = read[read < len(audio)]
        noise = scale * torch.randn(len(read), *audio.shape[1:])
        return Conditions(audio.index_add(0, read, noise), conditions.eyes)


class RadianceObjective:
    """AD-NeRF: squared error of both passes before the background (ad_nerf eq. 4), and the opacity's."""

    def __init__(self, model: RadianceField, scene: TrainingScene, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        self._sampler = _Sampler(scene, recipe)

    def step(self) -> StepLoss:
        """See `Objective`."""
        batch = self._sampler.draw()
        conditions = self._sampler.conditions(batch.frames, self.model.config.conditions.attention_frames)
        code = self.model.encode_frames(conditions, batch.frames)
        fine, coarse = self.model.passes(batch.rays, code, perturb=True)
        pixel = squared(fine.over(batch.behind) - batch.target).mean()
        rough = squared(coarse.over(batch.behind) - batch.target).mean()
        mask = (fine.opacity - batch.mask).square().mean() + (coarse.opacity - batch.mask).square().mean()
        total = pixel + rough + self.recipe.opacity_weight * mask
        return StepLoss(total, {"pixel": pixel.detach(), "coarse": rough.detach(), "opacity": mask.detach()})

    def state(self) -> dict[str, Tensor]:
        """Nothing beyond the network."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""


class LightFieldObjective:
    """NLDF: eq. (9), loss_r + lambda loss_rs, on drawn rays and on the active pool's."""

    def __init__(
        self, model: LightField, scene: TrainingScene, recipe: Recipe, targets: SegmentTargets | None
    ) -> None:
        self.model, self.scene, self.recipe, self.targets = model, scene, recipe, targets
        self._sampler = _Sampler(scene, recipe)
        self.pool = ActivePool(recipe.pool_capacity, recipe.pool_share) if recipe.active_pool else None

    def step(self) -> StepLoss:
        """See `Objective`."""
        batch = self._sampler.draw(None if self.targets is None else self.targets.frames)
        conditions = self._sampler.conditions(batch.frames, self.model.config.conditions.attention_frames)
        code = self.model.encode_frames(conditions, batch.frames)
        seen = self.model(jitter_rays(batch.rays, self.recipe.ray_jitter), code)
        error = squared(seen.over(batch.behind) - batch.target)
        mask = (seen.opacity - batch.mask).square()
        total = error.mean() + self.recipe.opacity_weight * mask.mean()
        figures = {"pixel": error.detach().mean(), "opacity": mask.detach().mean()}
        if self.targets is not None:
            segments = self._segment_loss(batch, seen, self.targets)
            total = total + self.recipe.segment_weight * segments
            figures["segments"] = segments.detach()
        if self.pool is not None:
            hard = self._pool_loss(self.pool)
            if hard is not None:
                # As one more batch beside the drawn one: every ray of a step weighs the same.
                share = self.recipe.pool_batch / self.recipe.rays
                total = total + share * hard
                figures["pool"] = hard.detach()
            frames = batch.frames[:, None].expand_as(batch.pixels)
            self.pool.offer(
                frames.reshape(-1).cpu(), batch.pixels.reshape(-1).cpu(), error.detach().reshape(-1).cpu()
            )
        return StepLoss(total, figures)

    def _segment_loss(self, batch: Batch, seen: RayColors, targets: SegmentTargets) -> Tensor:
        """Eq. (6) over the rays that the teacher has seen, and the same for the opacity."""
        losses, count = seen.segments.new_zeros(()), 0
        for row, frame in enumerate(batch.frames.tolist()):
            if frame not in targets:
                continue
            segments, opacity, known = (
                part.to(seen.segments.device) for part in targets.look_up(frame, batch.pixels[row].cpu())
            )
            per_ray = squared(seen.segments[row] - segments).sum(-1) + (seen.opacity[row] - opacity).square()
            losses = losses + (per_ray * known).sum()
            count += int(known.sum())
        return losses / max(1, count)

    def _pool_loss(self, pool: ActivePool) -> Tensor | None:
        """The pool's rays train the light field alone: their codes carry no gradient (nldf 3.5)."""
        slots, frames, pixels = pool.draw(self.recipe.pool_batch)
        if not len(slots):
            return None
        unique, row = frames.unique(return_inverse=True)
        conditions = self._sampler.conditions(unique, self.model.config.conditions.attention_frames)
        with torch.no_grad():
            codes = self.model.encode_frames(conditions, unique.to(self.scene.device))
        batch = self.scene.batch(frames, pixels[:, None])
        rays = jitter_rays(batch.rays, self.recipe.ray_jitter)
        seen = self.model(rays, codes[row.to(self.scene.device)])
        error = squared(seen.over(batch.behind) - batch.target)
        pool.renew(slots, error.detach()[:, 0].cpu())
        return error.mean() + self.recipe.opacity_weight * (seen.opacity - batch.mask).square().mean()

    def state(self) -> dict[str, Tensor]:
        """The active pool."""
        return {} if self.pool is None else self.pool.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes the active pool back."""
        if self.pool is not None:
            self.pool.restore(state)


def make_objective(
    model: Any, scene: TrainingScene, recipe: Recipe, targets: SegmentTargets | None
) -> RadianceObjective | LightFieldObjective:
    """The objective that goes with a network."""
    if isinstance(model, RadianceField):
        return RadianceObjective(model, scene, recipe)
    return LightFieldObjective(model, scene, recipe, targets)
