"""The 21 points of hands in a picture (Zhang et al. 2020, "MediaPipe Hands").

A detector looks for palms, which are stiffer than hands: boxes fit them better. The square about a hand is
made from its palm's box, upright as the line from the wrist to the middle finger's base, and a second network
finds the points in it. Frames have nothing to do with each other.
"""

from __future__ import annotations

import numpy as np
import torch

from nldf_engine.faces.anchors import AnchorDetector, Anchors, Detection
from nldf_engine.faces.crops import Square, as_batch
from nldf_engine.faces.network import load_network

PALM = Anchors("palm", ((24, 2), (12, 6)), certain=0.5, black=0.0)
WRIST, MIDDLE = 0, 2
"""Of a palm's seven points: the wrist, and the base of the middle finger."""

POINTS = 21
MOST = 2
"""Hands of a frame."""

CERTAIN = 0.5
"""A square whose hand's presence is no more than this has none."""

AROUND = 2.6
"""Side of the square over the longer side of the palm's box."""

RAISED = 0.5
"""How far the square's middle lies from that of the palm's box towards the fingers, in heights of the box."""

SAME = 0.5
"""Squares that share more than this (intersection over union) are of one hand."""


class HandPoints:
    """Finds the points of up to two hands.

    Raises:
        FileProblem: the installation lacks the networks.
    """

    def __init__(self) -> None:
        self._detector = AnchorDetector(PALM)
        self._network = load_network("hand")

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """The hands of a frame.

        Args:
            frame: uint8 [H, W, 3].

        Returns:
            float32 [N, 21, 2], N from 0 to 2, in pixels of the frame: the wrist, then four points each of the
            thumb and the fingers to the little one, from the palm to the tip.
        """
        squares = distinct([hand_square(palm) for palm in self._detector(frame)[:MOST]])
        if not squares:
            return np.zeros((0, POINTS, 2), np.float32)
        size = self._network.size
        found = self._network(torch.cat([as_batch(one.cut(frame, size, repeat=True)) for one in squares]))
        points = found["points"].numpy().reshape(-1, POINTS, 3)[..., :2] / size
        placed = [square.to_frame(one) for square, one in zip(squares, points, strict=True)]
        there = found["presence"].numpy().reshape(-1) > CERTAIN
        return np.stack(placed)[there].astype(np.float32)


def hand_square(palm: Detection) -> Square:
    """Where the second network looks for the hand of a palm, with the fingers upwards."""
    up = palm.points[MIDDLE] - palm.points[WRIST]
    corners = np.stack([palm.box[:2], palm.box[:2] + palm.box[2:]])
    return Square.around(corners, np.array([-up[1], up[0]]), AROUND, RAISED)


def distinct(squares: list[Square]) -> list[Square]:
    """Of squares about the same hand, the last one, as MediaPipe has it."""
    kept: list[Square] = []
    for square in squares:
        kept = [one for one in kept if one.overlap(square) <= SAME] + [square]
    return kept
