"""Training videos as tensors: `Scene` is a dataset at training size, `RayScene` adds what rays need.

A run learns from one scene or several (`Scenes`); a batch knows which one it is from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nldf_engine.audio import FrontendConfig
from nldf_engine.audio.windows import STRIDE, WINDOW, padded_rows
from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.geometry.cameras import Camera
from nldf_engine.ops import native, pack_pixels, unpack_pixels
from nldf_engine.rendering.fields import Bounds, Conditions, RayColors, Rays
from nldf_engine.rendering.layer import frame_rays, intrinsics_of
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.common.torso import TorsoPlate
from nldf_engine.training.backdrop import MovingBackdrop
from nldf_engine.training.recipe import Sampling
from nldf_engine.training.samplers import PixelSampler, in_labels
from nldf_engine.training.sounds import copied_rows
from nldf_engine.training.torso import fit_torso, tracked_motion

# Bytes a pixel that are kept of each frame, its colours and label, and of all frames together, beyond which
# some are left out: a training at 512 pixels then takes about 3 GB in all.
KEPT_BYTES, MOST_BYTES = 4, 1_300_000_000
REGION_EVERY = 5
REGION_GROWTH = 2
REGION_HALF_SIZE = 0.4
# Half width of a speaker's soft outline (hair, errors of the parsing), as a share of the frame's width.
RIM = 1 / 128
# In a blink the eye openness is below its median by over LIDS_DOWN of the range from median to minimum.
# Videos whose minimum is not below SHUT of the median have no blinks.
LIDS_DOWN, SHUT = 1 / 3, 0.5


HEAD_AND_NECK = LABELS["head"], LABELS["neck"]


# By name: what a step draws and looks up.
Tensors = Mapping[str, Tensor]


def sent(tensors: Tensors, device: torch.device) -> Tensors:
    """Tensors of the CPU on a device, which is not waited for."""
    return {name: native.send(values, device) for name, values in tensors.items()}


def head_and_neck(labels: Tensor) -> Tensor:
    """Pixels of the head's field: head and neck, in front of the torso plate."""
    return in_labels(labels, HEAD_AND_NECK)


@dataclass(frozen=True)
class Batch:
    """Rays to train on, F frames of P rays.

    Args:
        frames: [F] frame numbers in the dataset.
        pixels: [F, P] pixel numbers, row by row.
        rays: through those pixels.
        target: [F, P, 3] ground-truth colours.
        behind: [F, P, 3] colours behind the trained field. Behind the head: torso over background, or with a
            learned torso the background alone.
        mask: [F, P] in [0, 1], target of the opacity: 1 on what the trained field shows (head or neck for the
            head's), else 0.
        labels: [F, P] uint8, `datasets.dataset.LABELS`.
        points: [F, P, 2] the pixels' middles.
        interior: [F, P] 1 in the speaker's interior, `RIM` or more from the background, else 0.
        plate: the torso plate's colour [F, P, 3], times its opacity, and this [F, P].
        front: layer in front of the trained field; None for nothing.
        weight: [F, P], of the squared errors of colour and opacity; None for ones.
        identity: number of the speaker whose shape is shown, in a run over several datasets: the scene's, but
            where a loss has changed it.
        grid: (h, w) of the pixels, where P = h * w form a patch or a whole frame, row by row; else None.
        drawn: frames and pixels as they were drawn, on the CPU: to look them up there waits for no device.
    """

    frames: Tensor
    pixels: Tensor
    rays: Rays
    target: Tensor
    behind: Tensor
    mask: Tensor
    labels: Tensor
    points: Tensor
    interior: Tensor
    plate: tuple[Tensor, Tensor]
    front: RayColors | None = None
    weight: Tensor | None = None
    identity: int = 0
    grid: tuple[int, int] | None = None
    drawn: tuple[Tensor, Tensor] | None = None

    @property
    def on_host(self) -> tuple[Tensor, Tensor]:
        """Frames [F] and pixels [F, P] on the CPU; `drawn` where it is known."""
        return (self.frames.cpu(), self.pixels.cpu()) if self.drawn is None else self.drawn

    def error(self, seen: RayColors) -> Tensor:
        """[F, P, 3] composited colour minus target, times the root of the weight."""
        pixel = seen.over(self.behind)
        error = (pixel if self.front is None else self.front.over(pixel)) - self.target
        return error if self.weight is None else error * self.weight.sqrt()[..., None]

    def mask_error(self, opacity: Tensor) -> Tensor:
        """[F, P] weighted squared error of an opacity [F, P]."""
        error = (opacity - self.mask).square()
        return error if self.weight is None else error * self.weight


class Scene:
    """A dataset at training size.

    Args:
        dataset: what `nldf prepare` wrote.
        size: width of the frames, pixels.
        frontend: how audio becomes features.
        device: where batches are made.
        fit: the split whose frames are trained on.
        most: bytes that their pictures may take.

    Attributes:
        heard, heard_validation: [N] numbers of the frames that are trained on, and of those to choose by.
        fit, validation: every `every`-th of them: neighbours are alike, and the pictures of minutes at 512
            pixels would take gigabytes.
        kept: [N] numbers of both; other frames of `frames` and `labels` are empty.
        frame_pool: [N] numbers of the frames that steps draw from.
        identity: number of the scene in a run over several datasets.

    Raises:
        FileProblem: the dataset has no usable training frames, or no audio.
    """

    def __init__(
        self, dataset: Dataset, size: int, frontend: FrontendConfig, device: torch.device, fit: str = "fit",
        most: int = MOST_BYTES,
    ) -> None:  # fmt: skip
        if dataset.info.fps != FPS:
            raise FileProblem(
                Path(dataset.path), f"it has {dataset.info.fps:g} frames a second; training takes {FPS:g}",
                "prepare the video again",
            )  # fmt: skip
        self.dataset, self.device, self.frontend = dataset, device, frontend
        self.camera: Camera = dataset.camera.scaled(size)
        self.heard, self.heard_validation = (
            torch.from_numpy(dataset.indices(split)) for split in (fit, "validation")
        )
        every = torch.cat([self.heard, self.heard_validation]).unique()
        self.every = max(1, -(-len(every) * KEPT_BYTES * self.camera.width * self.camera.height // most))
        self.fit, self.validation = self.heard[:: self.every], self.heard_validation[:: self.every]
        if len(self.fit) < 2 or not len(self.validation):
            raise FileProblem(
                Path(dataset.path), f"it has {len(self.fit)} usable training and {len(self.validation)} "
                "validation frames, too few to train on", "prepare a longer video in which the face is seen",
            )  # fmt: skip
        self.identity, self.frame_pool = 0, self.fit
        self.kept = torch.cat([self.fit, self.validation]).unique()  # held-out ones are never looked at
        self.frames = torch.from_numpy(dataset.frames(size, self.kept.numpy()))
        self.labels = torch.from_numpy(dataset.labels(size, self.kept.numpy()))
        self.poses = torch.from_numpy(dataset.poses).float()
        self.background = torch.from_numpy(dataset.background(size)).float() / 255
        features = torch.from_numpy(dataset.audio_features(frontend))
        eyes, lists = torch.from_numpy(dataset.eye_openness).float(), torch.from_numpy(dataset.lists)
        self.conditions = Conditions(features, eyes, lists=lists).to(device)
        self._copies: Tensor | None = None
        self.moving: MovingBackdrop | None = None
        if int(np.max(dataset.extra.get("backdrop_moves", 0))):
            self.moving = MovingBackdrop(self.frames, self.labels)
        self.bounds = Bounds(dataset.info.near, dataset.info.far)
        self.torso_tracked = "torso" in dataset.extra
        self.motions = tracked_motion(dataset)
        self.pixels = self.camera.pixels()
        # Held, since a recorded step reads it, and what is made once for a camera is forgotten for others.
        self.intrinsics = intrinsics_of(self.camera, device)

    def final_phase(self, final: bool = True) -> None:
        """Sets which frames steps draw from; in the final phase of a run also the validation split."""
        self.frame_pool = torch.cat([self.fit, self.validation]).unique() if final else self.fit

    @property
    def audio_only(self) -> Conditions:
        """The conditions that drive an avatar: the mouth predicted from the audio alone."""
        return self.conditions.replaced(motion=None, landmarks=None)

    def set_track(self, name: str, values: Tensor) -> None:
        """Replaces the track `name` of the conditions by values [T, ...]."""
        self.conditions = self.conditions.replaced(**{name: values.to(self.device)})

    def sound_copies(self, count: int) -> Tensor:
        """[count, T, W, D] features of copies of the sound, as of other voices and rooms, at its own times.

        The same for a sound and a count. They are computed once.
        """
        if self._copies is None or len(self._copies) != count:
            made = copied_rows(
                self.dataset.audio(), count, np.random.default_rng(0),
                lambda samples: self.frontend.kind.rows(samples, self.frontend),
            )  # fmt: skip
            every = np.stack([padded_rows(rows, len(self.dataset)) for rows in made])
            # Windows overlap: as a view of the rows they take an eighth of the memory.
            rows = torch.from_numpy(every).to(self.device)
            self._copies = rows.unfold(1, WINDOW, STRIDE).transpose(2, 3)
        return self._copies

    def blinks(self) -> Tensor:
        """[N] numbers of the frames of the pool in which lids are on their way down or up."""
        eyes = self.conditions.eyes[self.frame_pool.to(self.device)].cpu()
        usual, shut = eyes.median(), eyes.min()
        down = eyes < usual - LIDS_DOWN * (usual - shut)
        return self.frame_pool[down] if shut < SHUT * usual else self.frame_pool[:0]

    def backdrop(self, frame: int) -> Tensor:
        """[H, W, 3] background of a frame: the clean plate, or the frame's own where the background moves."""
        if self.moving is None:
            return self.background
        every = torch.arange(len(self.pixels))[None]
        return self.moving.behind(torch.tensor([frame]), every).view_as(self.background)

    def rays(self, frames: Tensor, pixels: Tensor) -> Rays:
        """Rays through pixel numbers [F, P] of frames [F]."""
        return frame_rays(self.camera, self.poses[frames], self.points(pixels))

    def points(self, pixels: Tensor) -> Tensor:
        """[F, P, 2] centres of pixel numbers [F, P]."""
        return self.pixels.index_select(0, pixels.flatten()).view(*pixels.shape, 2)


class RayScene(Scene):
    """A scene set up for ray fields: the torso plate, the head's occupancy map, a sampler of its pixels.

    Args:
        dataset, size, frontend, device, fit, most: as for `Scene`.
        learned_torso: a learned torso replaces the torso plate, so batches leave the plate out.

    Raises:
        FileProblem: as `Scene`.
    """

    def __init__(
        self, dataset: Dataset, size: int, frontend: FrontendConfig, device: torch.device,
        learned_torso: bool = False, fit: str = "fit", most: int = MOST_BYTES,
    ) -> None:  # fmt: skip
        super().__init__(dataset, size, frontend, device, fit, most)
        self.learned_torso = learned_torso
        self.torso: TorsoPlate = fit_torso(self.frames, self.labels, self.poses, self.motions, self.fit)
        self.region = HeadRegion(REGION_HALF_SIZE)
        self.mark(self.region, lambda number: head_and_neck(self.labels[number]), self.rays)
        self._sampler = self.sampler(self._in_region)

    def mark(
        self, region: HeadRegion, where: Callable[[int], Tensor], rays: Callable[[Tensor, Tensor], Rays]
    ) -> None:
        """Fills a region's occupancy map from every `REGION_EVERY`-th training frame.

        Args:
            region: to be filled.
            where: frame number to the mask [H, W] bool of what the region is to cover.
            rays: frames [1] and pixel numbers [1, P] to their rays.
        """
        region.clear()
        for number in self.fit[::REGION_EVERY].tolist():
            inside = where(number).reshape(-1).nonzero()[:, 0]
            seen = rays(torch.tensor([number]), inside[None])
            region.add(seen.origins[0], seen.directions[0])
        region.grow(REGION_GROWTH)

    def sampler(
        self, in_region: Callable[[int, Tensor], Tensor], own: tuple[str, ...] = ("head",)
    ) -> PixelSampler:
        """The sampler of training pixels for a field that renders the labels `own` within a region."""
        scale = self.camera.width / self.dataset.camera.width
        return PixelSampler(self.labels, torch.from_numpy(self.dataset.landmarks) * scale, in_region, own)

    def plate(self, frames: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Colour [F, P, 3] and opacity [F, P] of the torso plate at pixel numbers [F, P] of frames [F]."""
        points = self.points(pixels) / self.camera.width
        return self.torso.sample(points, self.motions[frames], self.poses[frames])

    def batch(
        self, frames: Tensor, pixels: Tensor, plate: bool | None = None, grid: tuple[int, int] | None = None
    ) -> Batch:
        """The training batch of the head's field at pixel numbers [F, P] of frames [F].

        Args:
            frames, pixels: which.
            plate: composite the torso plate over the background; None: unless the torso is learned.
            grid: see `Batch`.
        """
        batch = self.seen(sent(self.look(frames, pixels), self.device), plate, grid)
        return dataclasses.replace(batch, drawn=(frames, pixels))

    def look(self, frames: Tensor, pixels: Tensor) -> dict[str, Tensor]:
        """What the video knows of pixel numbers [F, P] of frames [F], on the CPU; `seen` makes a batch of
        it."""
        packed = pack_pixels(
            self.background, frames, pixels, self.frames, self.labels, self._plate, self.motions,
            max(1, round(RIM * self.camera.width)), LABELS["background"], HEAD_AND_NECK,
        )  # fmt: skip
        looked = {"frames": frames, "pixels": pixels, "looked": packed, "poses": self.poses[frames]}
        if self.moving is not None:
            looked["behind"] = self.moving.behind(frames, pixels)
        return looked

    def seen(self, given: Tensors, plate: bool | None = None, grid: tuple[int, int] | None = None) -> Batch:
        """The batch of what `look` found, sent to the device; `plate` and `grid` as for `batch`."""
        looked = unpack_pixels(given["looked"], given["pixels"].shape)
        behind = given.get("behind", looked.behind)
        if (not self.learned_torso if plate is None else plate) and self.torso.shows():
            behind = looked.guess + (1 - looked.dense)[..., None] * behind
        return Batch(
            given["frames"], given["pixels"], frame_rays(self.camera, given["poses"], looked.points),
            looked.target, behind, looked.mask, looked.labels, looked.points, looked.interior,
            (looked.guess, looked.dense), identity=self.identity, grid=grid,
        )  # fmt: skip

    @cached_property
    def _plate(self) -> Tensor:
        """[H, W, 4] colour and opacity of the torso plate."""
        return torch.cat([self.torso.color, self.torso.alpha[..., None]], -1)

    def draw(self, frames: Tensor, rays: int, shares: Sampling, generator: torch.Generator) -> Tensor:
        """[F, rays] pixel numbers of the frames [F], sampled with the shares of `Sampling`."""
        return self._sampler.draw(frames, rays, shares, generator)

    def patch_places(
        self, frames: Tensor, own: Sequence[str], mouth: float, eyes: float, generator: torch.Generator
    ) -> Tensor:
        """[F, 4] boxes about which patches of frames [F] lie; see `PixelSampler.places`."""
        return self._sampler.places(frames, own, mouth, eyes, generator)

    def _in_region(self, frame: int, pixels: Tensor) -> Tensor:
        rays = self.rays(torch.tensor([frame]), pixels[None])
        return self.region.select(rays.origins[0], rays.directions[0])


class Scenes(Sequence[RayScene]):
    """The scenes of a run, one per dataset. A scene's number is its speaker's identity.

    Args:
        scenes: at least one; their `identity` is set here, and with several also the conditions' track.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, scenes: Sequence[RayScene]) -> None:
        if not scenes:
            raise ValueError("scenes: expected at least one, got none")
        self._scenes = list(scenes)
        for number, scene in enumerate(self._scenes):
            scene.identity = number
            if len(self._scenes) > 1:
                scene.set_track("identity", torch.full((len(scene.poses),), number))

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> RayScene:  # type: ignore[override]
        return self._scenes[index]

    def __iter__(self) -> Iterator[RayScene]:
        return iter(self._scenes)
