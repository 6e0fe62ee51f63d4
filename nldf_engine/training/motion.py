"""Fits the motion codes of mouth and upper face to the tracked landmarks of a video."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from nldf_engine.datasets.dataset import Dataset
from nldf_engine.geometry.face_mesh import BROWS, RIGHT_EYE_OUTER
from nldf_engine.systems.common.motion import LandmarkBasis, MotionBasis, UpperBasis

# Where lips, chin and brows are on average, metres along the head's z axis, where no shape was fitted.
FACE_DEPTH = -0.05
SMALLEST_SCALE = 1e-6
# Metres that the landmarks of a component move by, RMS: what moves less is the tracker's noise, and is not
# blown up to a code of unit variance.
SMALLEST_MOTION = 1e-4
RIDGE = 1e-4


def fit_basis(basis: MotionBasis, dataset: Dataset, fit: Tensor, shared: Tensor | None = None) -> Tensor:
    """Fits the basis to the frames `fit` [N]; returns the codes [T, K] of all frames, 0 where unknown.

    Args:
        basis: to be fitted.
        dataset: the video.
        fit: numbers of the frames.
        shared: [Q, L, 2] components, orthonormal, of which the first K are taken: only mean and scale are
            fitted then.

    Raises:
        ValueError: fewer than K shared components.
    """
    placed = placed_landmarks(basis, dataset)
    if shared is None:
        _fit_components(basis, placed[fit])
    else:
        _take_components(basis, placed[fit], shared)
    # The sign of a component is arbitrary: a code grows as the mouth opens.
    unit = torch.eye(len(basis.scale))
    sign = torch.where(basis.opening(unit) < basis.opening(0 * unit), -1.0, 1.0)
    basis.components.mul_(sign[:, None, None])
    return basis.encode(placed).nan_to_num(0)


def encode_mouth(basis: MotionBasis, dataset: Dataset) -> Tensor:
    """Codes [T, K] of all frames in a basis that is fitted already, 0 where unknown."""
    return basis.encode(placed_landmarks(basis, dataset)).nan_to_num(0)


# What the codes of the upper face mean: 1 without what goes with the pose, 2 with it.
UPPER_CODES = 2


def fit_upper(basis: UpperBasis, dataset: Dataset, fit: Tensor) -> Tensor:
    """Fits the basis to the frames `fit` [N]; returns the codes [T, E] of all frames, 0 where unknown."""
    placed = placed_landmarks(basis, dataset)
    poses, eyes = (torch.from_numpy(values).float() for values in (dataset.poses, dataset.eye_openness))
    fit = fit[placed[fit].flatten(1).isfinite().all(1) & eyes[fit].isfinite()]
    basis.usual.zero_()
    basis.usual.copy_(basis.explained(poses[fit], eyes[fit]).mean(0))
    openness = basis.explained(poses[fit], eyes[fit])[:, 0].double()
    moved = (placed[fit] - placed[fit].mean(0)).double()
    # A ridge: eyes that never close say nothing about what a blink moves.
    power = openness.square().sum() + RIDGE * len(fit) * max(float(openness.std()), SMALLEST_SCALE) ** 2
    basis.slopes.zero_()
    basis.slopes[0] = torch.einsum("t,tli->li", openness, moved) / power
    _fit_components(basis, placed[fit] - openness.float()[:, None, None] * basis.slopes[0])
    # The sign of a component is arbitrary: a code grows as the brows rise, which is where y falls.
    rise = -basis.components[:, : len(BROWS), 1].sum(1)
    basis.components.mul_(torch.where(rise < 0, -1.0, 1.0)[:, None, None])
    basis.scale.clamp_(min=SMALLEST_MOTION * math.sqrt(len(basis.landmarks)))
    return encode_upper(basis, dataset)


def encode_upper(basis: UpperBasis, dataset: Dataset) -> Tensor:
    """Codes [T, E] of all frames in a basis that is fitted already, 0 where unknown."""
    landmarks, poses, eyes = (
        torch.from_numpy(values).float()
        for values in (dataset.landmarks, dataset.poses, dataset.eye_openness)
    )
    return basis.track(landmarks, poses, dataset.camera, eyes)


def placed_landmarks(basis: LandmarkBasis, dataset: Dataset) -> Tensor:
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


def _take_components(basis: MotionBasis, seen: Tensor, shared: Tensor) -> None:
    """Mean and scale of landmarks [N, L, 2] along components [Q, L, 2] that are given."""
    count = len(basis.scale)
    if count > len(shared):
        raise ValueError(
            f"motion_codes: there are {len(shared)} shared components, expected at most so many "
            f"codes, got {count} (--set shared_basis=off fits as many as are wanted)"
        )
    seen = seen[seen.flatten(1).isfinite().all(1)]
    basis.mean.copy_(seen.mean(0))
    basis.components.copy_(shared[:count])
    along = torch.einsum("tli,kli->tk", seen - basis.mean, basis.components)
    basis.scale.copy_(along.square().mean(0).sqrt().clamp_min(SMALLEST_SCALE))


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
