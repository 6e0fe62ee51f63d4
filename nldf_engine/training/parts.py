"""The parts of a portrait that are fields, as training and distillation see them: the head and the torso.

Both are trained by the same objectives. What differs stands here: which rays they are asked for, what
their codes are made of, what stands behind and before them, and where the labels want them opaque.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.rendering.fields import Conditions, RayColors, RayField, Rays
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.common.torso_field import TorsoField
from nldf_engine.systems.nldf_fast.model import GridLightField
from nldf_engine.training.sampling import Shares
from nldf_engine.training.scene import Batch, TrainingScene

# How much a guess at what the head hides counts beside what a frame shows.
BEHIND_WEIGHT = 0.2
# How far behind the head neck and torso go on, as a share of the frame's width.
UNDER_CHIN = 0.08


class Part(Protocol):
    """One field of a portrait in a training video."""

    scene: TrainingScene

    @property
    def field(self) -> Any:
        """The network."""
        ...

    @property
    def region(self) -> HeadRegion:
        """Which of its rays may meet what it draws."""
        ...

    def draw(self, frames: Tensor, rays: int, shares: Shares) -> Tensor:
        """[F, rays] pixel numbers of frames [F] to train on."""
        ...

    def rays(self, frames: Tensor, pixels: Tensor) -> Rays:
        """The field's rays of pixel numbers [F, P] of frames [F]."""
        ...

    def codes(self, conditions: Conditions, frames: Tensor) -> Tensor:
        """[F, C] codes of frames [F] of a clip."""
        ...

    def batch(self, frames: Tensor, pixels: Tensor, code: Tensor) -> Batch:
        """Everything about pixel numbers [F, P] of frames [F] under codes [F, C]."""
        ...


class HeadPart:
    """The head: rays of the camera that moves about it, before torso and background.

    Args:
        portrait: whose head it is.
        scene: the training video.
        torso_in_front: the torso will stand before the head and draw the neck (ad_nerf 3.4).
    """

    def __init__(self, portrait: Portrait, scene: TrainingScene, torso_in_front: bool = False) -> None:
        self.portrait, self.scene, self._alone = portrait, scene, torso_in_front

    @property
    def field(self) -> Any:
        """See `Part`."""
        return self.portrait.field

    @property
    def region(self) -> HeadRegion:
        """See `Part`."""
        return self.portrait.region

    def draw(self, frames: Tensor, rays: int, shares: Shares) -> Tensor:
        """See `Part`."""
        return self.scene.draw(frames, rays, shares)

    def rays(self, frames: Tensor, pixels: Tensor) -> Rays:
        """See `Part`."""
        return self.scene.rays(frames, pixels)

    def codes(self, conditions: Conditions, frames: Tensor) -> Tensor:
        """See `Part`."""
        return self.field.encode_frames(conditions, frames)

    def batch(self, frames: Tensor, pixels: Tensor, code: Tensor) -> Batch:
        """See `Part`. What the torso draws before the head says nothing of the head behind it."""
        batch = self.scene.batch(frames, pixels)
        if not self._alone:
            return batch
        covered = is_label(batch.labels, "neck", "torso")
        plain = self.scene.batch(frames, pixels, plate=False).behind
        target = torch.where(covered[..., None], plain, batch.target)
        mask = is_label(batch.labels, "head").float()
        return dataclasses.replace(batch, behind=plain, target=target, mask=mask)


class TorsoPart:
    """The torso: canonical rays, told the head's pose; the trained head stands before it, or behind it.

    Behind the head, the neck's pixels are the torso's to show by itself: the head's field draws the neck as
    well, and what it hides would otherwise never be learned, and missing once the head moves off. What is
    behind the head itself no frame shows at that moment: there the plate that was gathered from the other
    frames, and filled up with what lies nearest, is the target (`BEHIND_WEIGHT`), so that the neck goes on
    under the chin.

    Args:
        portrait: its head is trained, its torso is a `TorsoField`.
        scene: the training video.
    """

    def __init__(self, portrait: Portrait, scene: TrainingScene) -> None:
        if not isinstance(portrait.torso, TorsoField):
            raise TypeError(f"portrait.torso: expected a TorsoField, got {type(portrait.torso).__name__}")
        self.head, self.torso, self.scene = HeadPart(portrait, scene), portrait.torso, scene
        self._sampler = scene.sampler(self._in_region, ("neck", "torso"))

    @property
    def field(self) -> Any:
        """See `Part`."""
        return self.torso.field

    @property
    def region(self) -> HeadRegion:
        """See `Part`."""
        return self.torso.region

    def draw(self, frames: Tensor, rays: int, shares: Shares) -> Tensor:
        """See `Part`."""
        return self._sampler.draw(frames, rays, shares)

    def rays(self, frames: Tensor, pixels: Tensor) -> Rays:
        """See `Part`."""
        scene = self.scene
        points = scene.pixels[pixels.cpu()] / scene.camera.width
        motion = scene.motions[frames.cpu()]
        return self.torso.rays(points.to(scene.device), motion.to(scene.device))

    @torch.no_grad()
    def mark_region(self) -> None:
        """Fills the region's map with neck and torso as the training frames show them, and under the chin."""
        self.scene.mark(self.region, self._shown, self.rays)

    def _shown(self, frame: int) -> Tensor:
        """[H, W] bool: where a frame shows neck or torso, or the head hides what is likely to be there."""
        labels = self.scene.labels[frame]
        own = is_label(labels, "neck", "torso")
        reach = max(1, round(UNDER_CHIN * labels.shape[1]))
        # Rows, then columns: the same square, at a cost that does not grow with its area.
        rows = F.max_pool2d(own[None].float(), (1, 2 * reach + 1), 1, (0, reach))
        near = F.max_pool2d(rows, (2 * reach + 1, 1), 1, (reach, 0))[0] > 0
        every = torch.arange(labels.numel())[None]
        alpha = self._plate(torch.tensor([frame]), every)[1].view(labels.shape).cpu()
        return own | (near & is_label(labels, "head") & (alpha > 0.5))

    def codes(self, conditions: Conditions, frames: Tensor) -> Tensor:
        """See `Part`. The head's code comes first, and is no longer trained."""
        with torch.no_grad():
            code = self.head.codes(conditions, frames)
        return self.torso.codes(code, self.scene.poses[frames.cpu()].to(code.device))

    def batch(self, frames: Tensor, pixels: Tensor, code: Tensor) -> Batch:
        """See `Part`."""
        batch = self.scene.batch(frames, pixels, plate=False)
        size = self.head.field.config.conditions.code_dim
        head = cull(self.head.field, self.head.region, batch.rays, code[:, :size])
        own = is_label(batch.labels, "neck", "torso")
        seen = dataclasses.replace(batch, rays=self.rays(frames, pixels), mask=own.float())
        if self.torso.in_front:
            return dataclasses.replace(seen, behind=head.over(batch.behind))
        behind = is_label(batch.labels, "head")
        hides = (~own & ~behind).float()
        front = RayColors(head.segments * hides[..., None, None], head.opacity * hides)
        color, alpha = self._plate(frames, pixels)
        guess = batch.behind + alpha[..., None] * (color - batch.behind)
        return dataclasses.replace(
            seen, front=front, target=torch.where(behind[..., None], guess, batch.target),
            mask=torch.where(behind, alpha, seen.mask), weight=torch.where(behind, BEHIND_WEIGHT, 1.0),
        )  # fmt: skip

    def _plate(self, frames: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Colour [F, P, 3] and opacity [F, P] of the scene's plate at pixel numbers [F, P] of frames [F]."""
        scene, frames = self.scene, frames.cpu()
        points = scene.points(pixels.cpu()) / scene.camera.width
        color, alpha = scene.torso.sample(points, scene.motions[frames], scene.poses[frames])
        return color.to(scene.device), alpha.to(scene.device)

    def _in_region(self, frame: int, pixels: Tensor) -> Tensor:
        rays = self.rays(torch.tensor([frame]), pixels[None])
        return self.region.select(rays.origins[0], rays.directions[0]).cpu()


def is_label(labels: Tensor, *names: str) -> Tensor:
    """Bool of the labels' shape: which are among the named ones of `datasets.dataset.LABELS`."""
    return torch.isin(labels, torch.tensor([LABELS[name] for name in names], device=labels.device))


def region_pixels(part: Part, frame: int) -> Tensor:
    """[N] sorted numbers of the frame's pixels whose rays may meet what the part draws."""
    every = torch.arange(len(part.scene.pixels))[None]
    rays, region = part.rays(torch.tensor([frame]), every), part.region
    to = region.occupancy.device
    return region.select(rays.origins[0].to(to), rays.directions[0].to(to)).nonzero()[:, 0].cpu()


def ask(field: RayField, region: HeadRegion, rays: Rays, code: Tensor) -> RayColors:
    """A light field's colours of rays [F, P] under codes [F, C], none outside of a region; with gradients."""
    frames, count, _ = rays.origins.shape
    with torch.no_grad():
        chosen = region.select(rays.origins, rays.directions).view(-1).nonzero()[:, 0]
    if isinstance(field, GridLightField):
        seen = field.of_chosen(rays, code, chosen)
    else:
        kept = Rays(rays.origins.flatten(0, 1)[chosen, None], rays.directions.flatten(0, 1)[chosen, None])
        seen = field(kept, code[chosen // count])
        seen = RayColors(seen.segments[:, 0], seen.opacity[:, 0])
    segments = seen.segments.new_zeros(frames * count, *seen.segments.shape[1:])
    opacity = seen.opacity.new_zeros(frames * count)
    segments = segments.index_copy(0, chosen, seen.segments)
    opacity = opacity.index_copy(0, chosen, seen.opacity)
    return RayColors(segments.view(frames, count, -1, 3), opacity.view(frames, count))


@torch.no_grad()
def cull(field: RayField, region: HeadRegion, rays: Rays, code: Tensor) -> RayColors:
    """A trained field's colours of rays [F, P] under codes [F, C], none outside of a region.

    A radiance field is asked frame by frame: its layers want many samples to a code.
    """
    if field.samples_per_ray == 1 or rays.origins.shape[1] == 1:
        return ask(field, region, rays, code)
    frames, count, _ = rays.origins.shape
    segments, opacity = rays.origins.new_zeros(frames, count, 1, 3), rays.origins.new_zeros(frames, count)
    for row, chosen in enumerate(region.select(rays.origins, rays.directions)):
        kept = Rays(rays.origins[row, chosen][None], rays.directions[row, chosen][None])
        seen = field(kept, code[row : row + 1])
        segments[row, chosen, 0] = seen.color[0]
        opacity[row, chosen] = seen.opacity[0]
    return RayColors(segments, opacity)
