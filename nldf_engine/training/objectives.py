"""What is minimised: one objective a system, each a step's loss from a training scene."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from nldf_engine.nn.audio import neighbour_index
from nldf_engine.rendering.fields import Conditions, RayColors
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.adnerf.model import RadianceField
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.nldf.model import LightField
from nldf_engine.systems.nldf_fast.model import GridLightField
from nldf_engine.training.distill import SegmentTargets
from nldf_engine.training.look import Look, weigh_mask
from nldf_engine.training.parts import HeadPart, Part, TorsoPart
from nldf_engine.training.pool import ActivePool
from nldf_engine.training.presets import Recipe
from nldf_engine.training.sampling import Shares
from nldf_engine.training.scene import Batch


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

    def parameters(self) -> list[Tensor]:
        """What is trained beside the portrait."""
        ...

    def begin(self, frames: Tensor) -> None:
        """Frames [F] are trained on from now on as well."""
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


class _Sampler:
    """Draws a step's frames and rays, and the codes that go with them."""

    def __init__(self, part: Part, recipe: Recipe) -> None:
        self.part, self.scene, self.recipe = part, part.scene, recipe
        self._blinks = part.scene.drawn, part.scene.blinks()

    def draw(self, first: Tensor | None = None) -> tuple[Batch, Tensor]:
        """A batch of `recipe.frames` frames and their codes [F, C].

        `first` is a set of which half of the frames are taken.
        """
        recipe = self.recipe
        drawn = self.scene.drawn
        frames = drawn[torch.randint(len(drawn), (recipe.frames,))]
        if first is not None and len(first):
            # An odd number is rounded up or down in turn by chance: with one frame a step, every other one.
            half = (recipe.frames + int(torch.rand(()) < 0.5)) // 2
            frames[:half] = first[torch.randint(len(first), (half,))]
        if self._blinks[0] is not drawn:
            self._blinks = drawn, self.scene.blinks()
        blinks = self._blinks[1]
        if recipe.blink_share and len(blinks):
            often = torch.rand(recipe.frames) < recipe.blink_share
            frames[often] = blinks[torch.randint(len(blinks), (int(often.sum()),))]
        shares = Shares(
            recipe.face_share, recipe.mouth_share, recipe.eyes_share, recipe.person_share, recipe.frame_share
        )
        pixels = self.part.draw(frames, max(1, recipe.rays // recipe.frames), shares)
        code = self.codes(frames)
        return self.part.batch(frames, pixels, code), code

    def codes(self, frames: Tensor) -> Tensor:
        """[F, C] codes of frames [F], with the recipe's noise."""
        neighbours = self.part.field.config.conditions.attention_frames
        return self.part.codes(self.conditions(frames, neighbours), frames.to(self.scene.device))

    def conditions(self, frames: Tensor, neighbours: int) -> Conditions:
        """The clip's conditions, with the recipe's noise on what drives the mouth in `frames`.

        Args:
            frames: [F] frame numbers.
            neighbours: windows about each frame that its code is made of.
        """
        conditions, scale = self.scene.conditions, self.recipe.audio_noise
        if conditions.motion is not None:
            noise = self.recipe.motion_noise * torch.randn_like(conditions.motion)
            return replace(conditions, motion=conditions.motion + noise)
        if not scale:
            return conditions
        audio = conditions.audio
        if audio.device.type != "cpu":
            # One kernel draws the whole clip; to learn how many windows differ would wait for the device.
            return replace(conditions, audio=audio + scale * torch.randn_like(audio))
        read = neighbour_index(frames.reshape(-1), neighbours, len(audio)).unique()
        read = read[read < len(audio)]
        noise = scale * torch.randn(len(read), *audio.shape[1:])
        return replace(conditions, audio=audio.index_add(0, read, noise))


class RadianceObjective:
    """AD-NeRF: squared error of both passes before what stands behind (ad_nerf eq. 4), and the opacity's.

    Args:
        part: the radiance field, head's or torso's, and what it sees.
        recipe: weights and shares.
    """

    def __init__(self, part: Part, recipe: Recipe) -> None:
        self.model: RadianceField = part.field
        self.recipe = recipe
        self._sampler = _Sampler(part, recipe)

    def step(self) -> StepLoss:
        """See `Objective`."""
        batch, code = self._sampler.draw()
        fine, coarse = self.model.passes(batch.rays, code, perturb=True)
        pixel, rough = (squared(batch.error(seen)).mean() for seen in (fine, coarse))
        errors = batch.mask_error(fine.opacity) + batch.mask_error(coarse.opacity)
        mask = weigh_mask(errors, batch.mask, batch, self._sampler.scene, self.recipe)
        total = pixel + rough + self.recipe.opacity_weight * mask
        return StepLoss(total, {"pixel": pixel.detach(), "coarse": rough.detach(), "opacity": mask.detach()})

    def parameters(self) -> list[Tensor]:
        """Nothing beyond the network."""
        return []

    def begin(self, frames: Tensor) -> None:
        """Nothing is kept of single frames."""

    def state(self) -> dict[str, Tensor]:
        """Nothing beyond the network."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""


class LightFieldObjective:
    """NLDF: eq. (9), loss_r + lambda loss_rs, on drawn rays and on the active pool's.

    Args:
        part: the light field, head's or torso's, and what it sees.
        recipe: weights and shares.
        targets: a teacher's segments of the same part, or None.
        torso: the layer that is learned along with a head, or None.
    """

    def __init__(
        self, part: Part, recipe: Recipe, targets: SegmentTargets | None, torso: TorsoLayer | None = None
    ) -> None:
        self.part, self.scene, self.recipe, self.targets = part, part.scene, recipe, targets
        self.model: LightField | GridLightField = part.field
        self.look = Look(part, recipe, torso)
        self._sampler = _Sampler(part, recipe)
        self.pool = ActivePool(recipe.pool_capacity, recipe.pool_share) if recipe.active_pool else None

    def step(self) -> StepLoss:
        """See `Objective`."""
        batch, code = self._sampler.draw(None if self.targets is None else self.targets.frames)
        seen, error, mask = self.look(batch, code)
        total = self._color_loss(error) + self.recipe.opacity_weight * mask
        error = squared(error)
        figures = {"pixel": error.detach().mean(), "opacity": mask.detach()}
        if self.look.corrections is not None:
            size = self.look.corrections.size(batch.frames)
            total = total + self.recipe.correction * size
            figures["correction"] = size.detach()
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

    def _color_loss(self, error: Tensor) -> Tensor:
        """Squared error a ray, and a share of the Charbonnier error, which keeps edges sharp."""
        loss = squared(error).mean()
        if self.recipe.charbonnier:
            loss = loss + 3 * self.recipe.charbonnier * (error.square() + 1e-6).sqrt().mean()
        return loss

    def _segment_loss(self, batch: Batch, seen: RayColors, targets: SegmentTargets) -> Tensor:
        """Eq. (6) over the rays that the teacher has seen, and the same for the opacity."""
        losses, count = seen.segments.new_zeros(()), 0
        for row, frame in enumerate(batch.frames.tolist()):
            if frame not in targets:
                continue
            segments, opacity, known = (
                part.to(seen.segments.device) for part in targets.look_up(frame, batch.pixels[row].cpu())
            )
            # A student of fewer segments learns the sums of as many of the teacher's.
            own = seen.segments.shape[2]
            segments = segments.unflatten(1, (own, -1)).sum(2)
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
        with torch.no_grad():
            codes = self._sampler.codes(unique)[row.to(self.scene.device)]
        batch = self.part.batch(frames, pixels[:, None], codes)
        _, error, mask = self.look(batch, codes)
        pool.renew(slots, squared(error.detach())[:, 0].cpu())
        return self._color_loss(error) + self.recipe.opacity_weight * mask

    def parameters(self) -> list[Tensor]:
        """The frames' corrections."""
        return [] if self.look.corrections is None else list(self.look.corrections.parameters())

    def begin(self, frames: Tensor) -> None:
        """Their corrections begin at none."""
        if self.look.corrections is not None:
            self.look.corrections.begin(frames)

    def state(self) -> dict[str, Tensor]:
        """The active pool and the frames' corrections."""
        state = {} if self.pool is None else self.pool.state()
        if self.look.corrections is not None:
            state = {**state, "corrections": self.look.corrections.numbers.detach()}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes them back."""
        if self.look.corrections is not None:
            with torch.no_grad():
                self.look.corrections.numbers.copy_(state["corrections"])
        if self.pool is not None:
            self.pool.restore(state)


def make_objective(
    part: HeadPart | TorsoPart, portrait: Portrait, recipe: Recipe, targets: SegmentTargets | None
) -> RadianceObjective | LightFieldObjective:
    """The objective that goes with a part's network; a portrait's torso layer is learned with its head."""
    if isinstance(part.field, RadianceField):
        return RadianceObjective(part, recipe)
    torso = portrait.torso if isinstance(portrait.torso, TorsoLayer) else None
    return LightFieldObjective(part, recipe, targets, torso)
