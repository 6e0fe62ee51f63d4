"""Captions and the like: things in the picture that keep their place while the torso behind them moves.

Writing has many hard edges close together. Those of clothes move with the torso; those of what was burnt into
the picture stand still to a fraction of a pixel for as long as they are shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nldf_engine.datasets.format import LABELS
from nldf_engine.datasets.problems import Problem
from nldf_engine.prepare.spoilt import runs, times

SIDE = 256  # pixels, of the pictures that are looked at
EVERY = 0.2  # seconds from one picture to the next
SHOWN = 6  # pictures in a row that writing must stand still in: a second
HARD, SOFT = 20.0, 4.0  # levels a pixel, of the edges of writing and of what shows motion
STANDING = 0.25  # pixels that an edge may have moved at most
FADED = 0.6  # of an edge's usual strength, that it must keep
MOVING = 0.8  # pixels that half of the other edges must have moved
WRITING = (25, 13)  # pixels, width and height of the place that edges are counted in
# Of such a place covered by standing edges: 0.9 in a line of writing, 0.4 in one that is thin or short;
# 0.1 at most in clips of speakers without.
DENSE = 0.35
BOTH = 0.1  # of it, covered by upright and by level ones each: stripes may slide along themselves unseen
NEAR = 24  # pixels around the writing in which the clothes must move as well
HOLES = 15  # pixels: letters that were not taken for the torso
FEWEST_MOVING = 30  # pixels of edges, below which nobody can tell whether the torso moves


class _Pictures:
    """The last pictures, their edges and where the torso is."""

    def __init__(self) -> None:
        self.gray: deque[np.ndarray] = deque(maxlen=SHOWN)
        self.edges: deque[np.ndarray] = deque(maxlen=SHOWN)
        self.torso: deque[np.ndarray] = deque(maxlen=SHOWN)

    def add(self, frame: np.ndarray, label: np.ndarray) -> None:
        """Takes a frame uint8 [S, S, 3] and its labels uint8 [S, S]."""
        import cv2

        small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        torso = (label == LABELS["torso"]).astype(np.uint8)
        torso = cv2.resize(torso, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT)
        self.gray.append(gray)
        self.edges.append(np.stack([cv2.Sobel(gray, -1, 1, 0), cv2.Sobel(gray, -1, 0, 1)]) / 8)
        self.torso.append(cv2.morphologyEx(torso, cv2.MORPH_CLOSE, np.ones((HOLES, HOLES), np.uint8)) > 0)

    def writing(self) -> np.ndarray:
        """bool [SIDE, SIDE], edges of what looks like writing in all these pictures; none where it is not."""
        import cv2

        gray, slopes = np.stack(self.gray), np.stack(self.edges)
        edges, upright = np.hypot(slopes[:, 0], slopes[:, 1]), np.abs(slopes).mean(0)
        torso, usual = np.logical_and.reduce(list(self.torso)), np.median(edges, 0)
        moved = np.abs(gray - gray.mean(0)).max(0) / np.maximum(usual, 1)
        still = torso & (usual > HARD) & (edges.min(0) > FADED * usual) & (moved < STANDING)
        ways = (still & (upright[0] > upright[1]), still & (upright[0] <= upright[1]))
        across, along = (cv2.boxFilter(way.astype(np.float32), -1, WRITING) for way in ways)
        dense = (across + along > DENSE) & (np.minimum(across, along) > BOTH)
        lines = cv2.dilate(dense.astype(np.uint8), np.ones(WRITING[::-1], np.uint8))
        others = torso & (usual > SOFT) & (lines == 0)
        beside = others & (cv2.dilate(lines, np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)) > 0)
        # Clothes that are plain beside it, or covered by it, are judged by how the whole torso moves.
        for chosen in (others, beside):
            if chosen.sum() >= FEWEST_MOVING and np.median(moved[chosen]) < MOVING:
                return np.zeros_like(still)
        made: np.ndarray = still & (lines > 0) & (others.sum() >= FEWEST_MOVING)
        return made


class Captions:
    """Looks for writing that stands still before a torso that moves.

    Where the torso stands still as well, or beside the speaker, nothing is found: what never moves there does
    no harm.

    Args:
        fps: frames a second.
    """

    def __init__(self, fps: float) -> None:
        self._step, self._total = max(1, round(EVERY * fps)), 0
        self._pictures, self._where = _Pictures(), np.zeros((SIDE, SIDE), bool)
        self._shown: list[int] = []

    def watch(self, frames: Iterable[np.ndarray], labels: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes the labels on, and looks at them together with the frames.

        Args:
            frames: uint8 [S, S, 3], as they were filmed; labels: uint8 [S, S]; both streamed.
        """
        for frame, label in zip(frames, labels, strict=False):
            if self._total % self._step == 0:
                self._pictures.add(frame, label)
                if len(self._pictures.gray) == SHOWN and (writing := self._pictures.writing()).any():
                    self._where |= writing
                    self._shown.append(self._total + 1)
            self._total += 1
            yield label

    def found(self) -> dict[str, Any]:
        """What was found in the frames so far.

        Returns:
            captions: [left, top, right, bottom] of everything that was found, as shares of the side, or None;
            and caption_frames: [begin, end) of the stretches in which it was.
        """
        if not self._shown:
            return {"captions": None, "caption_frames": []}
        flags = np.zeros(self._total, bool)
        for end in self._shown:
            flags[end - 1 - (SHOWN - 1) * self._step : end] = True
        columns, rows = np.flatnonzero(self._where.any(0)), np.flatnonzero(self._where.any(1))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        return {
            "captions": [round(float(v) / SIDE, 3) for v in box],
            "caption_frames": [list(run) for run in runs(flags)],
        }


def caption_problems(metrics: dict[str, Any], fps: float) -> list[Problem]:
    """What a person should know of what `Captions.found` gives."""
    if metrics["captions"] is None:
        return []
    flags = np.zeros(metrics["caption_frames"][-1][1], bool)
    for begin, end in metrics["caption_frames"]:
        flags[begin:end] = True
    left, top, right, bottom = metrics["captions"]
    what = (
        f"something like captions stands still before the torso while it moves, {times(flags, fps)}, "
        f"{left:.0%} to {right:.0%} from the left and {top:.0%} to {bottom:.0%} from the top; it is learned "
        "as part of the clothes"
    )
    return [Problem("captions", what, "use the source without them, or crop above them", "warning")]
