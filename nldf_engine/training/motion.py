"""Fits the motion codes to the tracked face, and trains the speech network to predict the mouth's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.base.progress import Bar
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.geometry.face_mesh import BROWS, RIGHT_EYE_OUTER
from nldf_engine.nn.speech import REACH
from nldf_engine.systems.common.motion import LandmarkBasis, MotionBasis, MotionEncoder, UpperBasis
from nldf_engine.training.voices import augment_voices

# Where lips, chin and brows are on average, metres along the head's z axis, where no shape was fitted.
FACE_DEPTH = -0.05
SMALLEST_SCALE = 1e-6
# Metres that the landmarks of a component move by, RMS: what moves less is the tracker's noise, and is not
# blown up to a code of unit variance.
SMALLEST_MOTION = 1e-4
RIDGE = 1e-4
STRETCH = 64
STRETCHES = 6
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
WARM_UP = 50
# Noise on the features, as shares of their standard deviation: a constant one a band (another microphone,
# another room) and one an entry.
BAND_NOISE, ENTRY_NOISE = 0.15, 0.5
# The change from frame to frame counts beside the position: it is what the eye follows.
VELOCITY_WEIGHT = 2.0
OPENING_WEIGHT = 0.25
# Lips apart where they ought to meet are seen at once, and the mean of what a sound leaves open never meets:
# where lips are closed (metres, with a soft edge), an error that parts them counts more.
CLOSED, CLOSED_EDGE = 0.7e-3, 0.3e-3
PARTING_WEIGHT = 2.5


def fit_basis(basis: MotionBasis, dataset: Dataset, fit: Tensor) -> Tensor:
    """Fits the basis to the frames `fit` [N]; returns the codes [T, K] of all frames, 0 where unknown."""
    placed = _placed(basis, dataset)
    _fit_components(basis, placed[fit])
    # The sign of a component is arbitrary: a code grows as the mouth opens.
    unit = torch.eye(len(basis.scale))
    sign = torch.where(basis.opening(unit) < basis.opening(0 * unit), -1.0, 1.0)
    basis.components.mul_(sign[:, None, None])
    return basis.encode(placed).nan_to_num(0)


def fit_upper(basis: UpperBasis, dataset: Dataset, fit: Tensor) -> Tensor:
    """Fits the basis to the frames `fit` [N]; returns the codes [T, E] of all frames, 0 where unknown."""
    placed = _placed(basis, dataset)
    landmarks, poses, eyes = (
        torch.from_numpy(values).float()
        for values in (dataset.landmarks, dataset.poses, dataset.eye_openness)
    )
    fit = fit[placed[fit].flatten(1).isfinite().all(1) & eyes[fit].isfinite()]
    basis.usual.zero_()
    basis.usual.copy_(basis.explained(poses[fit], eyes[fit]).mean(0))
    numbers = basis.explained(poses[fit], eyes[fit]).double()
    scale = numbers.std(0).clamp_min(SMALLEST_SCALE)
    moved = (placed[fit] - placed[fit].mean(0)).flatten(1).double()
    # A ridge: a head that never turns says nothing about the effect of a turn.
    gram = (numbers / scale).t() @ (numbers / scale) + RIDGE * len(fit) * torch.eye(len(scale))
    slopes = torch.linalg.solve(gram, (numbers / scale).t() @ moved) / scale[:, None]
    basis.slopes.copy_(slopes.view_as(basis.slopes))
    _fit_components(basis, placed[fit] - torch.einsum("tn,nli->tli", numbers.float(), basis.slopes))
    # The sign of a component is arbitrary: a code grows as the brows rise, which is where y falls.
    rise = -basis.components[:, : len(BROWS), 1].sum(1)
    basis.components.mul_(torch.where(rise < 0, -1.0, 1.0)[:, None, None])
    basis.scale.clamp_(min=SMALLEST_MOTION * math.sqrt(len(basis.landmarks)))
    return basis.track(landmarks, poses, dataset.camera, eyes)


def _placed(basis: LandmarkBasis, dataset: Dataset) -> Tensor:
    """The dataset's landmarks [T, L, 2] in head space, after the basis' depths were set."""
    if "shape" in dataset.extra:
        shape = torch.from_numpy(np.asarray(dataset.extra["shape"], np.float32))[:, 2]
        # A face's shape may come without the irises; a lid's depth is theirs.
        numbers = [n if n < len(shape) else RIGHT_EYE_OUTER for n in basis.landmarks]
        basis.depth.copy_(shape[numbers])
    else:
        basis.depth.fill_(FACE_DEPTH)
    landmarks = torch.from_numpy(dataset.landmarks).float()
    return basis.place(landmarks, torch.from_numpy(dataset.poses).float(), dataset.camera)


def _fit_components(basis: LandmarkBasis, seen: Tensor) -> None:
    """Mean, components and scale of landmarks [N, L, 2]; frames with unknown ones are left out."""
    seen = seen[seen.flatten(1).isfinite().all(1)]
    basis.mean.copy_(seen.mean(0))
    # In double precision, so that another machine's rounding does not turn the components.
    _, singular, components = torch.linalg.svd((seen - basis.mean).flatten(1).double(), full_matrices=False)
    kept = min(len(basis.scale), len(singular))
    found = components[:kept].view(kept, len(basis.landmarks), 2).float()
    basis.components.zero_()[:kept].copy_(found)
    basis.scale.fill_(SMALLEST_SCALE)
    basis.scale[:kept] = (singular[:kept] / math.sqrt(len(seen))).float().clamp_min(SMALLEST_SCALE)


@dataclass(frozen=True)
class SpeechData:
    """What the speech network learns from.

    Args:
        features: [T, W, D] audio windows.
        codes: [T, K] tracked.
        usable: [T] bool, frames that may be learned from.
        bands: whether the D features are bands of a spectrum, as mel's: they are then varied as other voices
            would vary them.
    """

    features: Tensor
    codes: Tensor
    usable: Tensor
    bands: bool = False

    def starts(self, length: int) -> Tensor:
        """First frames of the stretches in which nine tenths of the frames are usable."""
        total = F.pad(self.usable.float().cumsum(0), (1, 0))
        share = (total[length:] - total[:-length]) / length
        return (share >= min(0.9, float(share.max()))).nonzero()[:, 0]


class _Loss:
    """Squared error of the landmarks that codes stand for, of the mouth's opening, and of their changes; lips
    that part where they are closed count once more.
    """

    def __init__(self, basis: MotionBasis, data: SpeechData) -> None:
        self.weight = (basis.scale / basis.scale.max()).square()
        unit = torch.eye(len(basis.scale), device=basis.scale.device)
        opening = basis.opening(unit) - basis.opening(0 * unit)
        spread = (data.codes[data.usable] @ opening).std().clamp_min(SMALLEST_SCALE)
        self.opening = opening / spread
        self.closed = torch.sigmoid((CLOSED - basis.opening(data.codes)) / CLOSED_EDGE)

    def __call__(self, error: Tensor, frames: Tensor, usable: Tensor) -> Tensor:
        """Of errors [N, T, K] of the `frames` [N, T], where they are `usable` [N, T]."""
        both = usable[:, 1:] & usable[:, :-1]
        position = self._mean(error, usable)
        parted = (error @ self.opening).clamp_min(0).square() * self.closed[frames] * usable
        parting = PARTING_WEIGHT * parted.sum() / usable.sum().clamp_min(1)
        return position + parting + VELOCITY_WEIGHT * self._mean(error[:, 1:] - error[:, :-1], both)

    def _mean(self, error: Tensor, usable: Tensor) -> Tensor:
        squares = (error.square() * self.weight).sum(-1) + OPENING_WEIGHT * (error @ self.opening).square()
        return (squares * usable).sum() / usable.sum().clamp_min(1)


def train_speech(encoder: MotionEncoder, data: SpeechData, steps: int) -> None:
    """Trains `encoder.speech` on stretches of consecutive frames, for `steps` optimiser steps."""
    net = encoder.speech
    stretch = min(STRETCH, len(data.features))
    starts = data.starts(stretch)
    loss_of = _Loss(encoder.basis, data)
    spread = data.features.std().clamp_min(1e-6)
    silence = data.features.new_zeros(REACH, *data.features.shape[1:])
    padded = torch.cat([silence, data.features, silence])
    near = torch.arange(stretch + 2 * REACH, device=padded.device)
    here = near[:stretch]
    net.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    with Bar("learn the mouth's motion from speech", steps, "step") as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                rise = min(1.0, (step + 1) / WARM_UP)
                group["lr"] = LEARNING_RATE * rise * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            first = starts[torch.randint(len(starts), (STRETCHES,)).to(starts.device)][:, None]
            windows = padded[first + near]
            windows = augment_voices(windows) if data.bands else windows
            bands = torch.randn(STRETCHES, 1, 1, windows.shape[-1], device=windows.device)
            noise = BAND_NOISE * bands + ENTRY_NOISE * torch.randn_like(windows)
            error = net(windows + spread * noise) - data.codes[first + here]
            loss = loss_of(error, first + here, data.usable[first + here])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bar.step(note=f"error {float(loss.detach()):.2f}")
    net.eval().requires_grad_(False)


@torch.no_grad()
def opening_correlation(encoder: MotionEncoder, features: Tensor, codes: Tensor, frames: Tensor) -> float:
    """Correlation of the mouth's tracked and predicted opening over `frames` [N]; 0 for a still one."""
    predicted = encoder.basis.opening(encoder.speech.encode_clip(features)[frames])
    tracked = encoder.basis.opening(codes[frames])
    if min(float(predicted.std()), float(tracked.std())) < SMALLEST_SCALE:
        return 0.0
    return float(torch.corrcoef(torch.stack([predicted, tracked]))[0, 1])
