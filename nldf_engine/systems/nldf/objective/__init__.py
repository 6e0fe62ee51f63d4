"""NLDF's loss (nldf eq. 6 to 9): light fields of any kind, their teacher, the active pool, a torso layer."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine.ops import Compared
from nldf_engine.rendering.fields import RayColors
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.nldf.objective.patches import PatchTerm
from nldf_engine.systems.nldf.objective.rays import LightFieldLoss
from nldf_engine.training import distributed
from nldf_engine.training.corrections import FrameCorrections
from nldf_engine.training.distill import SegmentTargets, segment_targets
from nldf_engine.training.objective import Objective, RayBatches, StepLoss, squared
from nldf_engine.training.pool import ActivePool
from nldf_engine.training.scene import Batch, Tensors, sent
from nldf_engine.training.stages import RayPart
from nldf_engine.training.targets import HeadTarget, TrainTarget

PATCH = "patch "


class LightFieldObjective(Objective):
    """Eq. (9), loss_r + lambda loss_rs, on drawn rays and on the active pool's.

    Args:
        target: the light field, head's or torso's, and what it sees.
        recipe: a `LightFieldRecipe`.
        targets: a teacher's segments of the same target, or None.
        torso: the layer that is learned along with a head, or None.
    """

    def __init__(
        self,
        target: TrainTarget,
        recipe: Any,
        targets: SegmentTargets | None,
        torso: TorsoLayer | None = None,
    ) -> None:
        super().__init__()
        self.target, self.scene, self.recipe, self.targets = target, target.scene, recipe, targets
        self.loss = LightFieldLoss(target, recipe, torso)
        self._batches = RayBatches(target, recipe)
        self.pool = ActivePool(recipe.pool.capacity, recipe.pool.share) if recipe.pool.on else None
        self.patches = PatchTerm(self.loss, self._batches) if recipe.sharpening.weight else None
        self.settled = recipe.sharpening.begin if self.patches is not None else 0.0

    def forward(self, generator: torch.Generator) -> StepLoss:
        """See `Objective`."""
        inputs = self.draw_inputs(generator)
        (batch, seen, compared), step = self._seen(sent(inputs, self.scene.device), generator)
        batch = dataclasses.replace(batch, drawn=(inputs["frames"], inputs["pixels"]))
        total, logged = step.total, step.logged
        if self.targets is not None:
            segments = self._segment_loss(batch, seen, self.targets)
            total = total + self.recipe.distillation.segment_weight * segments
            logged["segments"] = segments.detach()
        if self.pool is not None:
            hard = self._pool_loss(self.pool, generator)
            if hard is not None:
                # As one more batch beside the drawn one: every ray of a step weighs the same.
                share = self.recipe.pool.batch / self.recipe.sampling.rays
                total = total + share * hard
                logged["pool"] = hard.detach()
            # One pool for all processes: each keeps the same, of the rays of all.
            frames, pixels = batch.on_host
            if distributed.world() > 1:
                pixels = distributed.whole(batch.pixels, 1).cpu()
            error = distributed.whole(squared(compared.error.detach()), 1).cpu()
            frames = frames[:, None].expand_as(pixels)
            self.pool.offer(frames.reshape(-1), pixels.reshape(-1), error.reshape(-1))
        return StepLoss(total, logged)

    def no_graph_reason(self) -> str:
        """See `Objective`."""
        if self.pool is not None:
            return "the active pool reads every step's losses"
        if self.targets is not None:
            return "the teacher's segments are looked up as the loss is computed"
        return "" if isinstance(self.target, HeadTarget) else "a torso's codes draw noise of their own"

    def draw_inputs(self, generator: torch.Generator) -> dict[str, Tensor]:
        """See `Objective`."""
        inputs = self._batches.draw_inputs(generator, None if self.targets is None else self.targets.frames)
        inputs |= self.loss.noise(len(inputs["frames"]), generator)
        if self.patches is not None and self.share >= self.settled:
            inputs |= {PATCH + name: values for name, values in self.patches.draw_inputs(generator).items()}
        return inputs

    def loss_of(self, inputs: Tensors) -> StepLoss:
        """See `Objective`."""
        return self._seen(inputs, None)[1]

    def _seen(
        self, inputs: Tensors, generator: torch.Generator | None
    ) -> tuple[tuple[Batch, RayColors, Compared], StepLoss]:
        """The batch of what was inputs, what is seen of it, and the loss of that and of the patches."""
        batch, code = self._batches.seen(inputs, generator)
        seen, compared, corrections = self.loss(batch, code, inputs, self.recipe.opacity.weight)
        total, logged = compared.total, {"pixel": compared.pixel, "opacity": compared.opacity}
        if corrections is not None:
            size = FrameCorrections.size(corrections)
            total = torch.add(total, size, alpha=self.recipe.regularisation.correction)
            logged["correction"] = size.detach()
        of_patch = {name[len(PATCH) :]: values for name, values in inputs.items() if name.startswith(PATCH)}
        if self.patches is not None and of_patch:
            pixels, distance = self.patches(of_patch, generator)
            total = total + self.patches.share * pixels
            total = total + self.recipe.sharpening.weight * distance
            logged["perceptual"] = distance.detach()
        return (batch, seen, compared), StepLoss(total, logged)

    def _segment_loss(self, batch: Batch, seen: RayColors, targets: SegmentTargets) -> Tensor:
        """Eq. (6) over the rays that the teacher has rendered, and the same for the opacity."""
        losses, count = seen.segments.new_zeros(()), 0
        frames, pixels = batch.on_host
        for row, frame in enumerate(frames.tolist()):
            if frame not in targets:
                continue
            segments, opacity, known = targets.look_up(frame, pixels[row])
            count += int(known.sum())
            segments, opacity, known = (part.to(seen.segments.device) for part in (segments, opacity, known))
            # A student of fewer segments learns the sums of as many of the teacher's.
            own = seen.segments.shape[2]
            segments = segments.unflatten(1, (own, -1)).sum(2)
            per_ray = squared(seen.segments[row] - segments).sum(-1) + (seen.opacity[row] - opacity).square()
            losses = losses + (per_ray * known).sum()
        known_rays = distributed.mean(torch.tensor(float(count), device=seen.segments.device))
        return losses / known_rays.clamp_min(1)

    def _pool_loss(self, pool: ActivePool, generator: torch.Generator) -> Tensor | None:
        """The pool's rays train the light field alone: their codes carry no gradient (nldf 3.5)."""
        count = min(self.recipe.pool.batch, len(pool))
        drawn = pool.draw(count - count % distributed.world(), generator)
        if not len(drawn[0]):
            return None
        slots, frames, pixels = (distributed.share(part) for part in drawn)
        unique, row = frames.unique(return_inverse=True)
        with torch.no_grad():
            codes = self._batches.codes(unique, generator)[row.to(self.scene.device)]
        batch = self.target.batch(frames, pixels[:, None], codes)
        noise = sent(self.loss.noise(len(frames), generator), self.scene.device)
        _, compared, _ = self.loss(batch, codes, noise, self.recipe.opacity.weight)
        losses = squared(compared.error.detach())[:, 0]
        pool.renew(distributed.whole(slots.to(losses.device)).cpu(), distributed.whole(losses).cpu())
        return compared.total

    def added(self) -> list[nn.Parameter]:
        """See `Objective`: the frames' corrections."""
        return [] if self.loss.corrections is None else list(self.loss.corrections.parameters())

    def begin(self, frames: Tensor) -> None:
        """See `Objective`: their corrections begin at none."""
        if self.loss.corrections is not None:
            self.loss.corrections.begin(frames)

    def state(self) -> dict[str, Tensor]:
        """See `Objective`: the active pool and the frames' corrections."""
        state = {} if self.pool is None else self.pool.state()
        if self.loss.corrections is not None:
            state = {**state, "corrections": self.loss.corrections.numbers.detach()}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """See `Objective`."""
        if self.loss.corrections is not None:
            with torch.no_grad():
                self.loss.corrections.numbers.copy_(state["corrections"])
        if self.pool is not None:
            self.pool.restore(state)


def light_field_objective(part: RayPart) -> LightFieldObjective:
    """The objective of a light field in a run; a portrait's torso layer is learned along with its head."""
    targets = None
    if part.teacher is not None:
        targets = segment_targets(part.teacher, part.recipe.distillation.frames, part.targets)
    torso = part.subject.portrait.torso
    layer = torso if isinstance(torso, TorsoLayer) else None
    return LightFieldObjective(part.target, part.recipe, targets, layer)
