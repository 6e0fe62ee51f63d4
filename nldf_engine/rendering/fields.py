"""Fields and what they exchange: conditions become a per-frame code; rays and a code become colours."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nldf_engine.ops import PortraitPart


@dataclass(frozen=True)
class Bounds:
    """The depths between which the head is.

    Args:
        near, far: distances from the camera, metres, 0 < near < far.
        radius: half the size of the head's space, metres; points are divided by it before they are
            encoded, so that the encoding's frequencies mean the same for every avatar.
    """

    near: float
    far: float
    radius: float = 0.25

    def __post_init__(self) -> None:
        finite = all(math.isfinite(value) for value in (self.near, self.far, self.radius))
        if not finite or not 0 < self.near < self.far or self.radius <= 0:
            raise ValueError(f"Bounds: expected 0 < near < far and radius > 0, got {self}")


@dataclass(frozen=True)
class Rays:
    """Rays of F frames, P to a frame.

    Args:
        origins: [F, P, 3] float32, metres in head space.
        directions: [F, P, 3] float32, unit length.
        axes: [F, 3] float32, unit length, where each frame's camera looks, for fields that measure depth
            along it; None for rays of no camera.
    """

    origins: Tensor
    directions: Tensor
    axes: Tensor | None = None

    def chunks(self, rays: int) -> list[Rays]:
        """Pieces of at most `rays` rays of each frame, in order."""
        pairs = zip(self.origins.split(rays, 1), self.directions.split(rays, 1), strict=True)
        return [Rays(o.contiguous(), d.contiguous(), self.axes) for o, d in pairs]

    def select(self, places: Tensor) -> Rays:
        """The rays at `places` [n] of each frame."""
        return Rays(self.origins.index_select(1, places), self.directions.index_select(1, places), self.axes)

    def to(self, device: torch.device | str) -> Rays:
        """The same on another device."""
        axes = None if self.axes is None else self.axes.to(device)
        return Rays(self.origins.to(device), self.directions.to(device), axes)


@dataclass(frozen=True)
class RayColors:
    """What a field says of rays.

    Args:
        segments: [F, P, M, 3] float32, colours of the M segments, already weighted by transmittance
            and opacity (they sum to the ray's colour without background).
        opacity: [F, P] float32 in [0, 1], what the ray hides of the background.
    """

    segments: Tensor
    opacity: Tensor

    @property
    def color(self) -> Tensor:
        """[F, P, 3]: the sum over segments, NLDF eq. (7)."""
        return self.segments.sum(-2)

    def over(self, background: Tensor) -> Tensor:
        """[F, P, 3]: the pixel before `background` [F, P, 3]."""
        return self.color + (1 - self.opacity[..., None]) * background

    @staticmethod
    def join(parts: list[RayColors]) -> RayColors:
        """Puts pieces made from `Rays.chunks` together again."""
        return RayColors(
            torch.cat([part.segments for part in parts], 1), torch.cat([part.opacity for part in parts], 1)
        )


class Conditions:
    """What drives T frames: named tracks, one row a frame.

    Args:
        audio: [T, W, D] float32, one window of audio features a frame.
        eyes: [T] float32, eye openness (lid gap over eye width; 0 is closed).
        tracks: further tracks by name, [T, ...]; None is the same as leaving one out. Known are "motion"
            [T, K] float32, motion codes of the mouth, predicted from the audio where absent; "upper" [T, E]
            float32, codes of brows, lids and gaze, a face at rest where absent; "landmarks" [T, 68, 3]
            float32, metres in head space, made of audio and eyes where absent; "lists" [T] int64, the list of
            a dataset that each frame stands in, below 0 for none (`nn.audio.listed_index`).

    Example:
        >>> clip = Conditions(torch.zeros(5, 16, 29), torch.ones(5), motion=torch.zeros(5, 8))
        >>> len(clip), clip.motion.shape, clip.upper is None
        (5, torch.Size([5, 8]), True)
        >>> clip.replaced(motion=None).motion is None
        True
    """

    def __init__(self, audio: Tensor, eyes: Tensor, **tracks: Tensor | None) -> None:
        given = {"audio": audio, "eyes": eyes, **tracks}
        self.tracks: dict[str, Tensor] = {name: value for name, value in given.items() if value is not None}

    @property
    def audio(self) -> Tensor:
        """[T, W, D] float32."""
        return self.tracks["audio"]

    @property
    def eyes(self) -> Tensor:
        """[T] float32."""
        return self.tracks["eyes"]

    @property
    def motion(self) -> Tensor | None:
        """[T, K] float32, where given."""
        return self.tracks.get("motion")

    @property
    def upper(self) -> Tensor | None:
        """[T, E] float32, where given."""
        return self.tracks.get("upper")

    def get(self, name: str) -> Tensor | None:
        """The track of that name; None where there is none."""
        return self.tracks.get(name)

    def replaced(self, **tracks: Tensor | None) -> Conditions:
        """The same with these tracks in place of those of their names; None takes one out."""
        return Conditions(**{**self.tracks, **tracks})  # type: ignore[arg-type]

    def at(self, frames: Tensor) -> Conditions:
        """The frames [N] alone."""
        return Conditions(**{name: value[frames] for name, value in self.tracks.items()})

    def to(self, device: torch.device | str) -> Conditions:
        """The same on another device."""
        return Conditions(**{name: value.to(device) for name, value in self.tracks.items()})

    def __len__(self) -> int:
        return int(self.audio.shape[0])


def check_windows(windows: np.ndarray | Tensor, expected: tuple[int, int]) -> None:
    """Checks that windows [T, W, D] of audio features are of the shape (W, D) that a network was built for.

    Raises:
        ValueError: they come from another front-end.
    """
    if tuple(windows.shape[1:]) != expected:
        raise ValueError(
            f"audio: expected features [T, {expected[0]}, {expected[1]}], got {list(windows.shape)}; they "
            "come from another audio front-end than the avatar's"
        )


class Follower(Protocol):
    """Makes tracks of a sound while it arrives, frame by frame, where a frame depends on all before it."""

    def push(self, windows: Tensor, last: bool) -> dict[str, Tensor]:
        """Rows [n, ...] of named tracks for the frames that became ready with the next windows [m, W, D].

        A frame is ready when the windows of as many frames behind it are there as the driver's `reach` says;
        `last` ends the sound, and makes the rest ready.
        """
        ...


class Driver(nn.Module, ABC):
    """Makes the code of a frame from what drives it.

    Subclasses set `dim` and implement `forward`; a driver made of others (`systems.common.conditions`) adds
    up their sizes.
    """

    dim: int

    @property
    def reach(self) -> tuple[int, int]:
        """How many frames before and after a frame its code depends on."""
        return 0, 0

    def follow(self) -> Follower | None:
        """What makes tracks of a sound from its beginning, for codes that depend on all that came before.

        None where the neighbours within `reach` are all that a code depends on. By default that of the first
        driver among the parts that has one.
        """
        parts = (part.follow() for part in self.children() if isinstance(part, Driver))
        return next((found for found in parts if found is not None), None)

    def part(self, name: str) -> Any:
        """The driver of that name that this one is made of; None where it has none.

        Known names are "motion" (motion codes of the mouth), "upper" (codes of brows, lids and gaze),
        "landmarks" (the 68 landmarks), "identity" and "albedo" (codes of speakers: a `table` with a row
        each, which tracks of these names choose from), "expression" (which the track "strength" scales) and
        "illumination" (which the track "light" [T, 3] changes).
        """
        return dict(self.named_children()).get(name)

    @abstractmethod
    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """[N, dim] codes of the frames `index` [N] of a clip."""
        ...


def masks(device: torch.device) -> bool:
    """Whether cheap networks evaluate everything and mask, instead of what is chosen alone: on a GPU the host
    would have to wait to learn how much that is, which takes longer."""
    return device.type != "cpu"


class RayField(nn.Module, ABC):
    """A network that answers rays: what ray heads, torsos, trainers and teachers need of it.

    Subclasses are the systems' networks. They set `config` and `encoder`, and implement `forward`.

    Attributes:
        system: name of the system in the registry (`systems.registry`).
        own_settings: names of settings of `config` that are one speaker's, and no network's.
        config: a frozen dataclass with at least `bounds` and `conditions`.
        encoder: makes the per-frame codes; a head's is a `Driver`.
        backend: "native" (compiled kernels) or "reference" (plain PyTorch, slow).
        cheap: a ray costs so little that a GPU had better evaluate all of them than wait for their number.
    """

    cheap: ClassVar[bool] = False
    system: str
    own_settings: ClassVar[tuple[str, ...]] = ("bounds",)
    config: Any
    encoder: Any
    backend: str = "native"

    @property
    def samples_per_ray(self) -> int:
        """Network evaluations a ray takes at once; renderers size their pieces by it."""
        return 1

    @property
    def macs(self) -> int:
        """Multiply-adds a ray, weights only."""
        return 0

    @property
    def own_parts(self) -> list[nn.Module]:
        """Modules, beside those of the encoder, that each speaker of a run has for its own; none here."""
        return []

    @abstractmethod
    def forward(self, rays: Rays, code: Tensor) -> RayColors:
        """Colours of rays [F, P] under the codes [F, C]."""
        ...

    def encode_frames(self, conditions: Conditions, index: Tensor | None = None) -> Tensor:
        """[N, C] codes of the frames `index` [N] of a clip (all of them where None)."""
        if index is None:
            index = torch.arange(len(conditions), device=conditions.audio.device)
        return self.encoder(conditions, index)

    def of_chosen(self, rays: Rays, code: Tensor, chosen: Tensor) -> RayColors:
        """Segment colours [N, M, 3] and opacity [N] of some rays of [F, P], with gradients.

        Args:
            rays: of F frames.
            code: [F, C] of the frames.
            chosen: [N] numbers of rays out of F * P, increasing.
        """
        count = rays.origins.shape[1]
        frame = chosen // count
        kept = Rays(
            rays.origins.flatten(0, 1)[chosen, None], rays.directions.flatten(0, 1)[chosen, None],
            None if rays.axes is None else rays.axes[frame],
        )  # fmt: skip
        seen = self(kept, code[frame])
        return RayColors(seen.segments[:, 0], seen.opacity[:, 0])

    def of_inside(self, rays: Rays, code: Tensor, inside: Tensor) -> RayColors:
        """Colours of rays [F, P], with gradients, zeros for those that are not `inside`.

        Args:
            rays: of F frames.
            code: [F, C] of the frames.
            inside: [F, P] bool.
        """
        frames, count, _ = rays.origins.shape
        if self.cheap and masks(rays.origins.device):
            seen = self(rays, code)
            segments = torch.where(inside[..., None, None], seen.segments, 0.0)
            return RayColors(segments, torch.where(inside, seen.opacity, 0.0))
        chosen = inside.view(-1).nonzero()[:, 0]
        seen = self.of_chosen(rays, code, chosen)
        segments = seen.segments.new_zeros(frames * count, *seen.segments.shape[1:])
        opacity = seen.opacity.new_zeros(frames * count)
        segments = segments.index_copy(0, chosen, seen.segments)
        opacity = opacity.index_copy(0, chosen, seen.opacity)
        return RayColors(segments.view(frames, count, -1, 3), opacity.view(frames, count))

    def frame_by_frame(self, rays: Rays, code: Tensor, chosen: Tensor) -> RayColors:
        """As `of_chosen`, one frame after the other: for networks that work on many rays of one code."""
        frames, count, _ = rays.origins.shape
        ends = torch.searchsorted(chosen, count * torch.arange(1, frames + 1, device=chosen.device)).tolist()
        parts = []
        for row, (first, last) in enumerate(zip([0, *ends], ends, strict=False)):
            own = chosen[first:last] - row * count
            axes = None if rays.axes is None else rays.axes[row : row + 1]
            kept = Rays(rays.origins[row, own][None], rays.directions[row, own][None], axes)
            parts.append(self(kept, code[row : row + 1]))
        return RayColors(
            torch.cat([part.segments[0] for part in parts]), torch.cat([part.opacity[0] for part in parts])
        )

    def portrait_part(self, poses: Tensor, codes: Tensor, cells: Tensor) -> PortraitPart | None:
        """The field as part of F frames that `ops.PortraitFrames` draws in one pass each; else None.

        Args:
            poses: [F, 4, 4] camera to head.
            codes: [F, C].
            cells: [N, N] uint8, occupancy of the region that it draws in.
        """
        return None

    def calibrate(self, poses: Tensor, conditions: Conditions, points: Tensor) -> None:
        """Fits scales of the inputs to the training video before the first step; nothing to fit here.

        Args:
            poses: [T, 4, 4] camera to head.
            conditions: of the same T frames.
            points: [N, 2] metres on the plane z = 0 of head space, where the head was seen.
        """
