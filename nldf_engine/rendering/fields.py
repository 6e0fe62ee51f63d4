"""What a field is: rays and a per-frame code in, segment colours and opacity out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bounds:
    """Where along a ray the head lies.

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
    """

    origins: Tensor
    directions: Tensor

    def chunks(self, rays: int) -> list[Rays]:
        """Pieces of at most `rays` rays of each frame, in order."""
        pairs = zip(self.origins.split(rays, 1), self.directions.split(rays, 1), strict=True)
        return [Rays(o.contiguous(), d.contiguous()) for o, d in pairs]


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


@dataclass(frozen=True)
class Conditions:
    """What drives the face in T frames.

    Args:
        audio: [T, 16, D] float32, one window of audio features a frame.
        eyes: [T] float32, eye openness (lid gap over eye width; 0 is closed).
        motion: [T, K] float32, motion codes of the mouth, or None where the audio is to tell them.
        upper: [T, E] float32, codes of brows, lids and gaze, or None for a face at rest.
    """

    audio: Tensor
    eyes: Tensor
    motion: Tensor | None = None
    upper: Tensor | None = None

    def to(self, device: torch.device | str) -> Conditions:
        """The same on another device."""
        motion, upper = (None if codes is None else codes.to(device) for codes in (self.motion, self.upper))
        return Conditions(self.audio.to(device), self.eyes.to(device), motion, upper)

    def __len__(self) -> int:
        return int(self.audio.shape[0])


class Field(Protocol):
    """A field as renderers and trainers see it. Systems subclass `torch.nn.Module` as well."""

    @property
    def samples_per_ray(self) -> int:
        """Network evaluations a ray takes at once; renderers size their pieces by it."""
        ...

    def encode_frames(self, conditions: Conditions, index: Tensor | None = None) -> Tensor:
        """[N, C] codes of the frames `index` [N] of a clip (all of them where None)."""
        ...

    def __call__(self, rays: Rays, code: Tensor) -> RayColors:
        """Colours of rays of F frames under the codes [F, C]."""
        ...
