"""The loss of the radiance field (gaussian landmark eq. 9), over square patches at random scales.

L = 10 (smooth L1 + 0.05 VGG) + 5 cross entropy of the mask + e^(1 - r) smooth L1 about the eyes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.nn.noise import normal_like
from nldf_engine.nn.perceptual import PictureLoss
from nldf_engine.rendering.fields import RayColors, Rays
from nldf_engine.systems.gaussian_landmark.model import GaussianField
from nldf_engine.training import distributed
from nldf_engine.training.objective import Objective, RayBatches, StepLoss, squared
from nldf_engine.training.samplers import PatchSampler, in_boxes
from nldf_engine.training.scene import Batch
from nldf_engine.training.stages import Subject
from nldf_engine.training.targets import HeadTarget

# An opacity is held so far from 0 and 1 in the cross entropy, so that no ray's is without bounds.
SURE = 1e-3
# The largest r of eq. (9), one being usual: wide open eyes count no less for long.
WIDEST = 1.5


class PatchLoss(Objective):
    """Eq. (9), and the empty space that is cut by the mask at first.

    At first the rays of pixels that are not the head's have no length: they are not evaluated, and the field
    learns what is inside. Then more and more of them are released, and teach it what is empty.

    Args:
        subject: the speaker and what is trained.
        recipe: a `GaussianRecipe`.
        perceptual: the loss of features.
        alone: the head is to be without its neck, before the background, for a torso that is made about it.

    Raises:
        TypeError: the head's field is another system's.
    """

    def __init__(self, subject: Subject, recipe: Any, perceptual: PictureLoss, alone: bool) -> None:
        super().__init__()
        target = HeadTarget(subject.portrait, subject.scene, alone)
        if not isinstance(target.field, GaussianField):
            raise TypeError(f"subject: expected a GaussianField, got {type(target.field).__name__}")
        self.field, self.target, self.scene, self.recipe = target.field, target, subject.scene, recipe
        self.perceptual = perceptual
        self._batches = RayBatches(target, recipe)
        camera, patches = self.scene.camera, recipe.patches
        self._patches = PatchSampler(camera.height, camera.width, patches.side, (1.0, patches.largest_scale))
        self._boxes = self.scene.sampler(lambda frame, pixels: torch.ones_like(pixels, dtype=torch.bool))
        eyes = self.scene.conditions.eyes
        self._usual = float(eyes[self.scene.fit.to(eyes.device)].median().clamp_min(1e-3))

    def forward(self, generator: torch.Generator) -> StepLoss:
        """See `Objective`: a patch of each frame."""
        frames = distributed.share(self._batches.frames(generator), what="sampling.frames")
        patches = self.recipe.patches
        shares = patches.mouth_share, patches.eyes_share
        places = self.scene.patch_places(frames, ("head",), *shares, generator)
        pixels, (side, _) = self._patches.draw(frames, generator, places)
        code = self.codes(frames, generator)
        batch = self.target.batch(frames, pixels, code)
        seen = self.colors(batch, code, self.released(), generator)
        pixel, weights = seen.over(batch.behind), self.recipe.losses
        losses = {"photometric": weights.pixel_weight * F.smooth_l1_loss(pixel, batch.target)}
        if weights.perceptual_weight:
            rendered, real = (x.view(-1, side, side, 3).permute(0, 3, 1, 2) for x in (pixel, batch.target))
            weight = weights.pixel_weight * weights.perceptual_weight
            losses["perceptual"] = weight * self.perceptual(rendered, real)
        opacity = seen.opacity.clamp(SURE, 1 - SURE)
        losses["mask"] = weights.mask_weight * F.binary_cross_entropy(opacity, batch.mask)
        losses["eyes"] = weights.eye_weight * self.eye_loss(pixel, batch)
        total = torch.stack(list(losses.values())).sum()
        logged = {name: value.detach() for name, value in losses.items()}
        return StepLoss(total, {"pixel": squared(pixel - batch.target).mean().detach(), **logged})

    def codes(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """[F, 204] codes of frames [F]: landmarks, with noise by each one's spread."""
        code = self.target.codes(self.scene.conditions, frames.to(self.scene.device))
        spread = self.field.encoder.landmarks.spread.flatten()
        return code + self.recipe.driving.motion_noise * spread * normal_like(code, generator)

    def released(self) -> float:
        """The share of the rays beside the head that are evaluated in this step."""
        cut = self.recipe.cut
        return min(1.0, max(0.0, (self.share - cut.full) / max(1e-6, cut.gone - cut.full)))

    def colors(self, batch: Batch, code: Tensor, released: float, generator: torch.Generator) -> RayColors:
        """The field's colours [F, P] of a batch, nothing where rays are cut or beside the region."""
        frames, count = batch.pixels.shape
        coin = torch.rand(frames, count, generator=generator).to(batch.mask.device)
        with torch.no_grad():
            chosen = self.target.region.select(batch.rays.origins, batch.rays.directions)
            chosen &= (batch.mask > 0) | (coin < released)
        segments = code.new_zeros(frames, count, self.field.config.segments, 3)
        opacity = code.new_zeros(frames, count)
        rows, columns = [], []
        for row in range(frames):
            own = chosen[row].nonzero()[:, 0]
            kept = Rays(batch.rays.origins[row, own][None], batch.rays.directions[row, own][None])
            seen = self.field.render(kept, code[row : row + 1], generator) if len(own) else None
            rows.append(segments[row] if seen is None else segments[row].index_copy(0, own, seen.segments[0]))
            columns.append(opacity[row] if seen is None else opacity[row].index_copy(0, own, seen.opacity[0]))
        return RayColors(torch.stack(rows), torch.stack(columns))

    def eye_loss(self, pixel: Tensor, batch: Batch) -> Tensor:
        """e^(1 - r) times the smooth L1 of pixels [F, P, 3] in boxes about the eyes, r their openness; mean
        over frames."""
        frames = batch.frames.cpu()
        inside = in_boxes(self._boxes.eyes, frames, batch.pixels, self._boxes.width).float()
        error = F.smooth_l1_loss(pixel, batch.target, reduction="none").mean(-1)
        mean = (error * inside).sum(1) / inside.sum(1).clamp_min(1)
        openness = (self.scene.conditions.eyes[batch.frames] / self._usual).clamp(0, WIDEST)
        return (torch.exp(1 - openness) * mean).mean()
