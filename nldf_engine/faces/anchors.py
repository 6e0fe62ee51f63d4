"""Single-shot detection with anchors, for faces and palms: BlazeFace and what was made after it
(Bazarevsky et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nldf_engine.faces.crops import Square, as_batch, check_frame
from nldf_engine.faces.network import load_network

OVERLAP = 0.3
"""Boxes that share more than this (intersection over union) with a better one join it."""


@dataclass(frozen=True)
class Detection:
    """Something detected, in pixels of the frame.

    Args:
        box: float32 [4]: x, y, width, height.
        points: float32 [P, 2]: which they are, the detector says.
        score: how certain, 0 to 1.
    """

    box: np.ndarray
    points: np.ndarray
    score: float


@dataclass(frozen=True)
class Anchors:
    """A detector's network, and what its outputs stand for.

    Args:
        network: its name in the asset.
        grids: (cells a side, anchors a cell) in the order of its outputs.
        certain: the least score, as MediaPipe has it.
        black: the number that stands for black in the network's pictures; white is 1.
    """

    network: str
    grids: tuple[tuple[int, int], ...]
    certain: float
    black: float

    @cached_property
    def centres(self) -> np.ndarray:
        """Of the anchors, float32 [N, 2], 0 to 1."""
        rows = []
        for cells, each in self.grids:
            line = (np.arange(cells, dtype=np.float32) + 0.5) / cells
            y, x = np.meshgrid(line, line, indexing="ij")
            rows.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), each, axis=0))
        return np.concatenate(rows)


class AnchorDetector:
    """Finds what a network was trained to find.

    Args:
        anchors: the network's.
        certain: the least score, 0 to 1; the network's own where None.

    Raises:
        FileProblem: the installation lacks the network.
    """

    def __init__(self, anchors: Anchors, certain: float | None = None) -> None:
        self._anchors = anchors
        self._network = load_network(anchors.network)
        self._certain = anchors.certain if certain is None else certain

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        """What is in a uint8 [H, W, 3] frame, the most certain first."""
        check_frame(frame)
        square = Square.whole(frame)
        size = self._network.size
        found = self._network(as_batch(square.cut(frame, size, repeat=False), self._anchors.black))
        raw, scores = found["boxes"][0].numpy(), found["scores"][0, :, 0].sigmoid().numpy()
        likely = np.flatnonzero(scores >= self._certain)
        likely = likely[np.argsort(-scores[likely], kind="stable")]
        places = raw.reshape(len(raw), -1, 2)[likely] / size  # middle, extent, points
        centres = self._anchors.centres[likely]
        extent = places[:, 1]
        points = places + centres[:, None]
        corners = np.concatenate([points[:, 0] - extent / 2, points[:, 0] + extent / 2], 1)
        real = (extent >= 0).all(1)
        joined = join_boxes(corners[real], points[real, 2:], scores[likely][real])
        return [_placed(square, *one) for one in joined]


def _placed(square: Square, corners: np.ndarray, points: np.ndarray, score: float) -> Detection:
    low, high = square.to_frame(corners.reshape(2, 2))
    box = np.concatenate([low, high - low]).astype(np.float32)
    return Detection(box, square.to_frame(points).astype(np.float32), score)


def join_boxes(
    corners: np.ndarray, points: np.ndarray, scores: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Non-maximum suppression by weighted means: what overlaps the best box moves it by its own score.

    Args:
        corners: [N, 4]: x and y of the upper left corner, then of the lower right one.
        points: [N, P, 2].
        scores: [N], falling.

    Returns:
        (corners [4], points [P, 2], the best score) of each detection.
    """
    joined = []
    left = np.arange(len(scores))
    areas = (corners[:, 2:] - corners[:, :2]).prod(1)
    while len(left):
        best = left[0]
        low = np.maximum(corners[left, :2], corners[best, :2])
        high = np.minimum(corners[left, 2:], corners[best, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        union = areas[left] + areas[best] - shared
        same = shared > OVERLAP * union
        same[0] = True
        one = left[same]
        weights = scores[one] / scores[one].sum()
        joined.append(
            (weights @ corners[one], np.tensordot(weights, points[one], axes=1), float(scores[best]))
        )
        left = left[~same]
    return joined
