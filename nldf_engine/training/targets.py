"""What of a portrait is trained: the head's field, or the torso's.

Both are trained by the same objectives. What differs is here: which rays they answer, what their codes are
made of, what is behind and in front of them, and where the labels want them opaque.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.rendering.fields import Conditions, RayColors, RayField, Rays
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.rendering.query import query_region
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.common.torso_field import TorsoField
from nldf_engine.training.recipe import Sampling
from nldf_engine.training.scene import Batch, RayScene, Tensors, sent

# How much a guess at what the head hides counts beside what a frame shows.
BEHIND_WEIGHT = 0.2
# How far behind the head neck and torso continue, as a share of the frame's width.
UNDER_CHIN = 0.08


class TrainTarget(Protocol):
    """One field of a portrait in a training video."""

    scene: RayScene

    @property
    def field(self) -> RayField:
        """The network."""
        ...

    @property
    def region(self) -> HeadRegion:
        """Which of its rays may meet what it draws."""
        ...

    def draw(self, frames: Tensor, rays: int, shares: Sampling, generator: torch.Generator) -> Tensor:
        """[F, rays] pixel numbers of frames [F] to train on."""
        ...

    def rays(self, frames: Tensor, pixels: Tensor) -> Rays:
        """The field's rays of pixel numbers [F, P] of frames [F]."""
        ...

    def codes(self, conditions: Conditions, frames: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """[F, C] codes of frames [F] of a clip; `noise` draws what training adds to a pose."""
        ...

    def look(self, frames: Tensor, pixels: Tensor) -> dict[str, Tensor]:
        """What the video knows of pixel numbers [F, P] of frames [F], on the CPU."""
        ...

    def seen(self, looked: Tensors, code: Tensor) -> Batch:
        """Everything about what `look` found, sent to the device, under codes [F, C]."""
        ...

    def batch(self, frames: Tensor, pixels: Tensor, code: Tensor) -> Batch:
        """Everything about pixel numbers [F, P] of frames [F], on the CPU, under codes [F, C]."""
        looked = sent(self.look(frames, pixels), self.scene.device)
        return dataclasses.replace(self.seen(looked, code), drawn=(frames, pixels))


def ray_head(portrait: Portrait) -> RayHead:
    """The portrait's head, where it is a ray field.

    Raises:
        TypeError: it is another kind of head.
    """
    if not isinstance(portrait.head, RayHead):
        raise TypeError(f"portrait.head: expected a RayHead, got {type(portrait.head).__name__}")
    return portrait.head


class HeadTarget(TrainTarget):
    """The head: rays of the camera that moves about it, before torso and background.

    Args:
        portrait: whose head it is.
        scene: the training video.
        torso_in_front: the torso will be in front of the head and draw the neck (ad_nerf 3.4).
    """

    def __init__(self, portrait: Portrait, scene: RayScene, torso_in_front: bool = False) -> None:
        self.portrait, self.scene, self._alone = portrait, scene, torso_in_front
        self._head = ray_head(portrait)

    @property
    def field(self) -> RayField:
        """See `TrainTarget`."""
        return self._head.field

    @property
    def region(self) -> HeadRegion:
        """See `TrainTarget`."""
        return self._head.region

    def draw(self, frames: Tensor, rays: int, shares: Sampling, generator: torch.Generator) -> Tensor:
        """See `TrainTarget`."""
        return self.scene.draw(frames, rays, shares, generator)

    def rays(self, frames: Tensor, pixels: Tensor) -> Rays:
        """See `TrainTarget`."""
        return self.scene.rays(frames, pixels)

    def codes(self, conditions: Conditions, frames: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """See `TrainTarget`."""
        return self.field.encode_frames(conditions, frames)

    def look(self, frames: Tensor, pixels: Tensor) -> dict[str, Tensor]:
        """See `TrainTarget`."""
        return self.scene.look(frames, pixels)

    def seen(self, looked: Tensors, code: Tensor) -> Batch:
        """See `TrainTarget`. What the torso draws in front of the head says nothing of the head behind it."""
        batch = self.scene.seen(looked)
        if not self._alone:
            return batch
        covered = is_label(batch.labels, "neck", "torso")
        plain = self.scene.seen(looked, plate=False).behind
        target = torch.where(covered[..., None], plain, batch.target)
        mask = is_label(batch.labels, "head").float()
        return dataclasses.replace(batch, behind=plain, target=target, mask=mask)


class TorsoTarget(TrainTarget):
    """The torso: canonical rays, conditioned on the head's pose, composited with the trained head.

    Behind the head, the neck's pixels are the torso's to show by itself: the head's field draws the neck as
    well, and what it hides would otherwise never be learned, and missing once the head moves off. What is
    behind the head itself no frame shows at that moment: there the plate that was gathered from the other
    frames, and filled up with what is nearest, is the target (`BEHIND_WEIGHT`), so that the neck continues
    under the chin.

    Args:
        portrait: its head is trained, its torso is a `TorsoField`.
        scene: the training video.
    """

    def __init__(self, portrait: Portrait, scene: RayScene) -> None:
        if not isinstance(portrait.torso, TorsoField):
            raise TypeError(f"portrait.torso: expected a TorsoField, got {type(portrait.torso).__name__}")
        self.head, self.torso, self.scene = HeadTarget(portrait, scene), portrait.torso, scene
        self._sampler = scene.sampler(self._in_region, ("neck", "torso"))

    @property
    def field(self) -> RayField:
        """See `TrainTarget`."""
        return self.torso.field

    @property
    def region(self) -> HeadRegion:
        """See `TrainTarget`."""
        return self.torso.region

    def draw(self, frames: Tensor, rays: int, shares: Sampling, generator: torch.Generator) -> Tensor:
        """See `TrainTarget`."""
        return self._sampler.draw(frames, rays, shares, generator)

    def rays(self, frames: Tensor, pixels: Tensor) -> Rays:
        """See `TrainTarget`."""
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
        alpha = self.scene.plate(torch.tensor([frame]), every)[1].view(labels.shape)
        return own | (near & is_label(labels, "head") & (alpha > 0.5))

    def codes(self, conditions: Conditions, frames: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """See `TrainTarget`. The head's code comes first, and is no longer trained."""
        with torch.no_grad():
            code = self.head.codes(conditions, frames)
        return self.torso.codes(code, self.scene.poses[frames.cpu()].to(code.device), noise)

    def look(self, frames: Tensor, pixels: Tensor) -> dict[str, Tensor]:
        """See `TrainTarget`."""
        looked = self.scene.look(frames, pixels) | {"motions": self.scene.motions[frames]}
        if not self.torso.in_front:
            looked["plate color"], looked["plate alpha"] = self.scene.plate(frames, pixels)
        return looked

    def seen(self, looked: Tensors, code: Tensor) -> Batch:
        """See `TrainTarget`."""
        batch = self.scene.seen(looked, plate=False)
        rays = self.torso.rays(batch.points / self.scene.camera.width, looked["motions"])
        with torch.no_grad():
            own_code = code[:, : self.head.field.encoder.dim]
            head = query_region(self.head.field, self.head.region, batch.rays, own_code)
        own = is_label(batch.labels, "neck", "torso")
        seen = dataclasses.replace(batch, rays=rays, mask=own.float())
        if self.torso.in_front:
            return dataclasses.replace(seen, behind=head.over(batch.behind))
        behind = is_label(batch.labels, "head")
        hides = (~own & ~behind).float()
        front = RayColors(head.segments * hides[..., None, None], head.opacity * hides)
        color, alpha = looked["plate color"], looked["plate alpha"]
        guess = batch.behind + alpha[..., None] * (color - batch.behind)
        return dataclasses.replace(
            seen, front=front, target=torch.where(behind[..., None], guess, batch.target),
            mask=torch.where(behind, alpha, seen.mask), weight=torch.where(behind, BEHIND_WEIGHT, 1.0),
        )  # fmt: skip

    def _in_region(self, frame: int, pixels: Tensor) -> Tensor:
        rays = self.rays(torch.tensor([frame]), pixels[None])
        return self.region.select(rays.origins[0], rays.directions[0]).cpu()


def is_label(labels: Tensor, *names: str) -> Tensor:
    """Bool of the labels' shape: which are among the named ones of `datasets.dataset.LABELS`."""
    inside = torch.zeros_like(labels, dtype=torch.bool)
    for name in names:
        inside |= labels == LABELS[name]
    return inside


def region_pixels(target: TrainTarget, frame: int) -> Tensor:
    """[N] sorted numbers of the frame's pixels whose rays may meet what the target draws."""
    every = torch.arange(len(target.scene.pixels))[None]
    rays, region = target.rays(torch.tensor([frame]), every), target.region
    to = region.occupancy.device
    return region.select(rays.origins[0].to(to), rays.directions[0].to(to)).nonzero()[:, 0].cpu()
