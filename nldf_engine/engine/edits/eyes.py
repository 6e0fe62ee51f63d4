"""Blinks: from the track, made up like a person's, or from a file.

Openness is that of the avatar's own conditions (lid gap over eye width, or whatever its track holds); here it
is given as a share: 1 is this person's usual, 0 the most closed that the track shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nldf_engine.base.clock import FPS
from nldf_engine.engine.edits.curves import Curve

BLINKS = ("auto", "natural", "track", "none")
# Blinks of a person who talks: 10 to 20 a minute, 100 to 400 ms each (Bentivoglio et al. 1997; Caffier et al.
# 2003). Closing takes a third of the time that opening takes, and lids never rest for longer than LONGEST.
RATE = 15.0
SHORTEST, LONGEST, USUAL, SPREAD = 0.10, 0.40, 0.22, 0.35
DOUBLE = 0.12
REST = 0.9  # seconds of open eyes at least
LONGEST_OPEN = 12.0
CLOSING, SHUT = 0.25, 0.2  # shares of a blink's time
# Lids this far down count as a blink of a track, and so many a minute as a track that blinks.
BLINK_DEPTH = 0.5
FEWEST_BLINKS = 2.0
# A track without blinks shows no closed eye; one is then this share of its open one.
UNSEEN_CLOSED = 0.35
WIDEST = 1.5


@dataclass(frozen=True)
class EyesEdit:
    """How the eyes open and close.

    Args:
        blink: "track" as in the training video, "natural" made up (see `NaturalBlinks`), "none" always open,
            "auto" the track where it blinks at all, else natural.
        curve: a column "eyes", openness as a share in the place of `blink`: 1 as usual, 0 closed.
        scale: of the openness, share by share: 0 closed, 1 unchanged, up to WIDEST.
        rate: natural blinks a minute.
        seed: of natural blinks: the same seed blinks at the same moments.

    Raises:
        ValueError: an unknown way to blink, or a number out of its range.
    """

    blink: str = "auto"
    curve: Curve | None = None
    scale: float = 1.0
    rate: float = RATE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.blink not in BLINKS:
            raise ValueError(f"EyesEdit: blink is one of {', '.join(BLINKS)}, got {self.blink!r}")
        if not 0 <= self.scale <= WIDEST:
            raise ValueError(f"EyesEdit: scale must be 0 to {WIDEST:g}, got {self.scale!r}")
        if not 1 <= self.rate <= 40:
            raise ValueError(f"EyesEdit: rate must be 1 to 40 blinks a minute, got {self.rate!r}")
        if self.curve is not None and "eyes" not in self.curve.check(("eyes",)).columns:
            raise ValueError("EyesEdit: the curve has no column 'eyes'")


class NaturalBlinks:
    """Blinks without end at random moments, the same for the same seed.

    Between blinks is a rest of REST seconds and a Poisson process' waiting time, cut at LONGEST_OPEN; one
    in eight blinks comes twice. Durations are log-normal, held in SHORTEST..LONGEST.

    Args:
        rate: blinks a minute, on the average.
        seed: of the random numbers.
    """

    def __init__(self, rate: float = RATE, seed: int = 0) -> None:
        self._random = np.random.default_rng([0xB11C, seed])
        # A pair counts for two; what it lasts and rests is taken off the waiting.
        each = 60 / rate * (1 + DOUBLE)
        self._wait = max(0.2, each - REST - (1 + DOUBLE) * USUAL)
        self._time = self._random.uniform(0.3, REST + self._wait)
        self.begins: list[float] = []
        self.lasts: list[float] = []

    def _extend(self, until: float) -> None:
        while not self.begins or self._time <= until:
            for _ in range(2 if self._random.random() < DOUBLE else 1):
                lasts = USUAL * math.exp(SPREAD * self._random.standard_normal())
                lasts = min(LONGEST, max(SHORTEST, lasts))
                self.begins.append(self._time)
                self.lasts.append(lasts)
                self._time += lasts + 0.1
            self._time += min(LONGEST_OPEN, REST + self._random.exponential(self._wait))

    def at(self, index: Tensor) -> Tensor:
        """[N] float64 openness as a share, in the frames `index` [N] of 25 a second."""
        times = index.cpu().numpy() / FPS
        if not len(times):
            return torch.zeros(0, dtype=torch.float64)
        self._extend(float(times.max()) + 1)
        begins, lasts = np.array(self.begins), np.array(self.lasts)
        last = np.searchsorted(begins, times, "right") - 1
        place = (times - begins[last.clip(0)]) / lasts[last.clip(0)]
        # Which frame sees a lid in motion is chance; that none sees it shut would be no blink at all.
        shut = np.maximum(SHUT, 1 / FPS / lasts[last.clip(0)])
        opening = (place - CLOSING - shut) / (1 - CLOSING - shut).clip(1e-6)
        down = np.where(place < CLOSING, _ease(place / CLOSING), 1 - _ease(opening))
        blinking = (last >= 0) & (place < 1)
        return torch.from_numpy(np.where(blinking, 1 - down, 1.0))


def _ease(share: np.ndarray) -> np.ndarray:
    held = np.clip(share, 0, 1)
    return held * held * (3 - 2 * held)


def blinks_a_minute(eyes: Tensor) -> float:
    """How often the eyes [T] of a track close to less than half of what is usual."""
    usual, closed = lids(eyes)
    shut = (eyes - closed) < BLINK_DEPTH * (usual - closed)
    begun = int((shut[1:] & ~shut[:-1]).sum()) + int(shut[:1].sum())
    return begun * 60 * FPS / max(1, len(eyes))


def lids(eyes: Tensor) -> tuple[float, float]:
    """(usual, closed) openness of a track [T]: its median, and the least that it shows."""
    usual = float(eyes.median())
    return usual, min(float(eyes.min()), UNSEEN_CLOSED * usual)


class Eyes:
    """Openness for any frame number under an `EyesEdit`.

    Args:
        edit: how they blink.
        own: [T] the avatar's own track.

    Attributes:
        edit: as given.
    """

    def __init__(self, edit: EyesEdit, own: Tensor) -> None:
        self.edit = edit
        self._usual, self._closed = lids(own)
        blink = edit.blink
        if blink == "auto":
            blink = "track" if blinks_a_minute(own) >= FEWEST_BLINKS else "natural"
        self._share: Callable[[Tensor], Tensor] | None = None
        if edit.curve is not None:
            curve = edit.curve
            self._share = lambda index: curve.at("eyes", index)  # type: ignore[assignment,return-value]
        elif blink == "natural":
            self._share = NaturalBlinks(edit.rate, edit.seed).at
        elif blink == "none":
            self._share = lambda index: torch.ones(len(index), dtype=torch.float64)

    def __call__(self, index: Tensor, tracked: Tensor) -> Tensor:
        """[N] float32 openness of the frames `index` [N], whose track has `tracked` [N]."""
        scale, whole = self.edit.scale, self._usual - self._closed
        if self._share is None:
            return tracked if scale == 1 else self._closed + scale * (tracked - self._closed)
        share = self._share(index).clamp(0, WIDEST)
        return (self._closed + scale * share * whole).to(tracked.dtype)
