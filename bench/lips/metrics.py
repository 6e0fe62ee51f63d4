"""How well predicted codes tell what the mouth did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from nldf_engine.systems.common.motion import MotionBasis

CLOSED, LOWEST = 0.7e-3, 0.1
NAMES = {
    "r": ("r ↑", 3), "amplitude": ("amplitude → 1", 2), "change_r": ("r of changes ↑", 3),
    "explained": ("explained ↑", 3), "auc": ("closed AUC ↑", 3), "f1": ("closed F1 ↑", 3),
    "distribution": ("distribution ↓", 3), "error": ("error, mm ↓", 2),
}  # fmt: skip
SMALLEST = 1e-9


def measure(basis: MotionBasis, predicted: Tensor, tracked: Tensor, frames: Tensor) -> dict[str, float]:
    """The columns of the tables, see `lip_measures`; of all lip and chin landmarks.

    Args:
        basis: of the codes.
        predicted, tracked: [T, K] codes of a clip.
        frames: [N] numbers, in order, of those that count.
    """
    ours, real = (Lips(basis.opening(codes), basis.decode(codes)) for codes in (predicted, tracked))
    return lip_measures(ours, real, frames)


@dataclass(frozen=True)
class Lips:
    """Lips of a clip of T frames.

    Args:
        opening: [T] metres between the inner lips; below 0 where they are pressed together.
        landmarks: [T, L, 2 or 3] metres.
    """

    opening: Tensor
    landmarks: Tensor


def lip_measures(ours: Lips, real: Lips, frames: Tensor) -> dict[str, float]:
    """How well lips follow the real ones in the frames [N], in order.

    Returns:
        Of the mouth's visible opening: `r` and `amplitude` (ratio of standard deviations), `change_r`
        (correlation of changes between consecutive frames), `auc` and `f1` of the closed frames (tracked
        opening below `CLOSED` or its tenth percentile), `distribution` (Wasserstein distance over the tracked
        standard deviation). Of all landmarks: `explained` variance, and mean `error` in millimetres.
    """
    # However firmly lips are pressed together, they look closed.
    made, true = (of.opening[frames].clamp_min(0).double().numpy() for of in (ours, real))
    landmarks = real.landmarks[frames]
    wrong = ours.landmarks[frames] - landmarks
    total = (landmarks - landmarks.mean(0)).square().sum().clamp_min(SMALLEST)
    limit = max(CLOSED, float(np.quantile(true, LOWEST)))
    closed, shown = true < limit, made < limit
    follows = (frames[1:] == frames[:-1] + 1).numpy()
    return {
        "r": _correlation(made, true),
        "amplitude": float(made.std() / max(true.std(), SMALLEST)),
        "change_r": _correlation(np.diff(made)[follows], np.diff(true)[follows]),
        "explained": 1 - float(wrong.square().sum() / total),
        "auc": _auc(-made, closed),
        "f1": float(2 * (shown & closed).sum() / max(1, shown.sum() + closed.sum())),
        "distribution": float(np.abs(np.sort(made) - np.sort(true)).mean() / max(true.std(), SMALLEST)),
        "error": 1e3 * float(wrong.norm(dim=-1).mean()),
    }


def means(found: list[dict[str, float]]) -> dict[str, float]:
    """Each column's mean."""
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _correlation(ours: np.ndarray, real: np.ndarray) -> float:
    if len(ours) < 2 or min(ours.std(), real.std()) < SMALLEST:
        return 0.0
    return float(np.corrcoef(ours, real)[0, 1])


def _auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive has the higher score; 0.5 where there is only one kind."""
    count = int(positive.sum())
    if count in (0, len(score)):
        return 0.5
    ranks = np.argsort(np.argsort(score))[positive]
    return float((ranks.sum() - count * (count - 1) / 2) / (count * (len(score) - count)))
