"""Where faces are in a picture: BlazeFace (Bazarevsky et al. 2019), single-shot detection with anchors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nldf_engine.faces.crops import Square, as_batch, check_frame
from nldf_engine.faces.network import load_network

OVERLAP = 0.3
"""Boxes that share more than this (intersection over union) with a better one join it."""


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the frame.

    Args:
        box: float32 [4]: x, y, width, height; from the brows to the chin.
        points: float32 [6, 2]: the eye on the left as seen, the one on the right, nose, mouth, the ear on the
            left, the one on the right.
        score: how certain, 0 to 1.
    """

    box: np.ndarray
    points: np.ndarray
    score: float


@dataclass(frozen=True)
class Range:
    """A detector for faces at some distance.

    Args:
        network: its name in the asset.
        grids: (cells a side, anchors a cell) in the order of its outputs.
        certain: the least score of a face, as MediaPipe has it.
    """

    network: str
    grids: tuple[tuple[int, int], ...]
    certain: float

    @cached_property
    def anchors(self) -> np.ndarray:
        """Centres of the anchors, float32 [N, 2], 0 to 1."""
        rows = []
        for cells, each in self.grids:
            line = (np.arange(cells, dtype=np.float32) + 0.5) / cells
            y, x = np.meshgrid(line, line, indexing="ij")
            rows.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), each, axis=0))
        return np.concatenate(rows)


RANGES = {"near": Range("near", ((16, 2), (8, 6)), 0.5), "far": Range("far", ((48, 1),), 0.6)}


class FaceDetector:
    """Finds the faces of a picture.

    Args:
        distance: "near" for faces that fill much of the picture (it looks at 128 pixels), "far" for those of
            people up to 5 m away (192 pixels).
        certain: the least score of a face, 0 to 1; the network's own where None.

    Raises:
        ValueError: there is no such distance.
        FileProblem: the installation lacks the networks.
    """

    def __init__(self, distance: str = "near", certain: float | None = None) -> None:
        if distance not in RANGES:
            raise ValueError(f"distance: expected one of {sorted(RANGES)}, got {distance!r}")
        self._range = RANGES[distance]
        self._network = load_network(self._range.network)
        self._certain = self._range.certain if certain is None else certain

    def __call__(self, frame: np.ndarray) -> list[Face]:
        """The faces of a uint8 [H, W, 3] frame, the most certain first."""
        check_frame(frame)
        square = Square.whole(frame)
        size = self._network.size
        found = self._network(as_batch(square.cut(frame, size, repeat=False), -1.0))
        raw, scores = found["boxes"][0].numpy(), found["scores"][0, :, 0].sigmoid().numpy()
        likely = np.flatnonzero(scores >= self._certain)
        likely = likely[np.argsort(-scores[likely], kind="stable")]
        places = raw[likely].reshape(-1, 8, 2) / size
        centres = self._range.anchors[likely]
        extent = places[:, 1]
        points = places + centres[:, None]
        corners = np.concatenate([points[:, 0] - extent / 2, points[:, 0] + extent / 2], 1)
        real = (extent >= 0).all(1)
        joined = join_boxes(corners[real], points[real, 2:], scores[likely][real])
        return [self._placed(square, *one) for one in joined]

    @staticmethod
    def _placed(square: Square, corners: np.ndarray, points: np.ndarray, score: float) -> Face:
        low, high = square.to_frame(corners.reshape(2, 2))
        return Face(
            np.concatenate([low, high - low]).astype(np.float32),
            square.to_frame(points).astype(np.float32),
            score,
        )


def join_boxes(
    corners: np.ndarray, points: np.ndarray, scores: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Non-maximum suppression by weighted means: what overlaps the best box moves it by its own score.

    Args:
        corners: [N, 4]: x and y of the upper left corner, then of the lower right one.
        points: [N, P, 2].
        scores: [N], falling.

    Returns:
        (corners [4], points [P, 2], the best score) of each face.
    """
    faces = []
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
        faces.append(
            (weights @ corners[one], np.tensordot(weights, points[one], axes=1), float(scores[best]))
        )
        left = left[~same]
    return faces
