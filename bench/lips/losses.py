"""Losses that ask for lively predictions while a speech network trains, in addition to its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor

from nldf_engine.systems.common.motion import MotionBasis
from nldf_engine.training import speech
from nldf_engine.training.speech import OPENING_WEIGHT, SpeechData

SMALLEST = 1e-6


def deviation(ours: Tensor, real: Tensor) -> Tensor:
    """Squared difference of standard deviations over each stretch, [N, T, C] both."""
    spreads = [(part.var(1) + SMALLEST).sqrt() for part in (ours, real)]
    return (spreads[0] - spreads[1]).square().sum(-1).mean()


def spectrum(ours: Tensor, real: Tensor) -> Tensor:
    """Squared difference of spectral magnitudes over each stretch, [N, T, C] both."""
    sizes = [
        torch.fft.rfft(part - part.mean(1, keepdim=True), dim=1, norm="ortho").abs() for part in (ours, real)
    ]
    return (sizes[0] - sizes[1]).square().sum(-1).mean()


@contextmanager
def added(loss: Callable[[Tensor, Tensor], Tensor], weight: float) -> Iterator[None]:
    """Speech networks that are trained meanwhile have `weight` times this loss as well.

    It is of codes in units of the error that the networks' own loss squares, and of the mouth's opening.
    """

    class Lively(speech.SpeechLoss):
        def __init__(self, basis: MotionBasis, data: SpeechData) -> None:
            super().__init__(basis, data)
            self.codes = data.codes

        def __call__(self, error: Tensor, frames: Tensor, usable: Tensor) -> Tensor:
            real = self.codes[frames]
            seen = [self._seen(part) * usable[..., None] for part in (real + error, real)]
            return super().__call__(error, frames, usable) + weight * loss(*seen)

        def _seen(self, codes: Tensor) -> Tensor:
            opening = OPENING_WEIGHT**0.5 * (codes @ self.opening)
            return torch.cat([codes * self.weight.sqrt(), opening[..., None]], -1)

    with mock.patch.object(speech, "SpeechLoss", Lively):
        yield
