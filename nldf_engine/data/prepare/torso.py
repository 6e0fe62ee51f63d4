"""The torso's own motion in the image: one small similarity a frame, from a reference frame.

Found by aligning the clothes (and the outline of the shoulders) of every frame with those of the reference.
Dark, plain clothes hold little to align: there a prior that the torso hardly turns or scales, and moves
little from frame to frame, takes over degree by degree, so that the track stays put instead of drifting.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nldf_engine.base.progress import Bar
from nldf_engine.data.format import LABELS

WORK = 128  # pixels: the side that alignment runs at
ROUNDS = 12
NOISE = 4.0  # gray levels: what two aligned frames differ by
ALIKE = 30.0  # pixels that carry one independent observation (noise is correlated)
ROBUST = 10.0  # gray levels: larger differences lose weight (shadows of the chin, a hand)
OUTLINE = 3  # pixels beyond the reference's torso that count, so that its outline does
CLEAR_OF_HEAD = 5  # pixels
STEP_SPREAD = np.array([1.5, 1.5, 0.01, 0.01])  # x, y in pixels; scale, turn: usual change between frames
WHOLE_SPREAD = np.array([40.0, 40.0, 0.04, 0.06])  # usual distance from the reference
SMOOTHING = 0.3  # of the second differences, as for the head's poses
SMALLEST = 60  # pixels of torso below which nothing is tracked


@dataclass(frozen=True)
class TorsoTrack:
    """How the torso moves.

    Args:
        motion: float32 [T, 2, 3]; motion[t] maps (x, y, 1) of the reference frame to frame t, in pixels
            of the dataset's size with centres at +0.5.
        reference: index of the reference frame.
        match: float32 [T], correlation of the aligned torso with the reference's.
        certainty: share in [0, 1] of the motion (x, y, scale, turn) that the picture itself decides.
    """

    motion: np.ndarray
    reference: int
    match: np.ndarray
    certainty: np.ndarray


def choose_reference(landmarks: np.ndarray, valid: np.ndarray, last: int) -> int:
    """The frame before `last` whose chin is nearest to its usual place."""
    chin = landmarks[:, 152, :2]
    usual = np.median(chin[valid], axis=0) if valid.any() else chin[0]
    far = np.abs(chin - usual).sum(1) + np.where(valid, 0, 1e6)
    return int(np.argmin(far[: max(1, last)]))


def track_torso(
    frames: Iterable[np.ndarray], labels: Iterable[np.ndarray], total: int, reference: int
) -> TorsoTrack:
    """Follows the torso.

    Args:
        frames: uint8 [S, S, 3]; labels: uint8 [S, S]; both streamed, `total` of them.
        reference: index of the frame that the others are compared with.
    """
    import cv2

    gray = np.empty((total, WORK, WORK), np.float32)
    side, map_of_reference = WORK, np.zeros((WORK, WORK), np.int32)
    for index, (frame, label) in enumerate(zip(frames, labels, strict=False)):
        side = frame.shape[0]
        small = cv2.resize(
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (WORK, WORK), interpolation=cv2.INTER_AREA
        )
        gray[index] = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.2)
        if index == reference:
            small_map = cv2.resize(label, (WORK, WORK), interpolation=cv2.INTER_NEAREST_EXACT)
            map_of_reference = small_map.astype(np.int32)
    torso = (map_of_reference == LABELS["torso"]).astype(np.uint8)
    above = np.isin(map_of_reference, (LABELS["head"], LABELS["neck"])).astype(np.uint8)
    square = cv2.MORPH_ELLIPSE
    grown = cv2.dilate(torso, cv2.getStructuringElement(square, (2 * OUTLINE + 1,) * 2))
    kept_off = cv2.dilate(above, cv2.getStructuringElement(square, (2 * CLEAR_OF_HEAD + 1,) * 2))
    area = (grown > 0) & (kept_off == 0)
    motion = np.zeros((total, 4))
    match = np.zeros(total, np.float32)
    certainty, middle = np.zeros(4), np.zeros(2)
    if area.sum() >= SMALLEST:
        aligner = Aligner(gray[reference], area)
        certainty, middle = aligner.certainty, aligner.middle + 0.5
        with Bar("following the torso", total, "frame") as bar:
            for order in (range(reference, total), range(reference - 1, -1, -1)):
                now = np.zeros(4)
                for index in order:
                    now, match[index] = aligner.align(gray[index], now)
                    motion[index] = now
                    bar.step()
        motion = _smooth(motion)
        motion -= motion[reference]
    return TorsoTrack(_matrices(motion, middle, side / WORK), reference, match, certainty.astype(np.float32))


class Aligner:
    """Lucas-Kanade with a prior, from `reference` [s, s] float32 where `area` [s, s] is true.

    Parameters are (x, y, scale - 1, turn) about the middle of the area, `certainty` is how far the
    picture decides each.
    """

    def __init__(self, reference: np.ndarray, area: np.ndarray) -> None:
        import cv2

        y, x = np.nonzero(area)
        self.middle = np.array([x.mean(), y.mean()])
        self.x, self.y = (x - self.middle[0]).astype(np.float32), (y - self.middle[1]).astype(np.float32)
        self.values = reference[area]
        gx = cv2.Sobel(reference, cv2.CV_32F, 1, 0, scale=1 / 8)[area]
        gy = cv2.Sobel(reference, cv2.CV_32F, 0, 1, scale=1 / 8)[area]
        self.by_motion = np.stack([gx, gy, gx * self.x + gy * self.y, gy * self.x - gx * self.y], 1)
        self.prior_step = np.diag(1 / STEP_SPREAD**2)
        self.prior_whole = np.diag(1 / WHOLE_SPREAD**2)
        information = self.by_motion.T @ self.by_motion / (NOISE**2 * ALIKE)
        self.certainty = np.diag(
            np.linalg.solve(information + self.prior_whole + self.prior_step, information)
        )

    def align(self, picture: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, float]:
        """Motion near `start`, and the correlation that it reaches."""
        import cv2

        now, seen = start.copy(), self.values
        for _ in range(ROUNDS):
            turned_x = self.x * (1 + now[2]) - self.y * now[3] + self.middle[0] + now[0]
            turned_y = self.x * now[3] + self.y * (1 + now[2]) + self.middle[1] + now[1]
            seen = cv2.remap(
                picture,
                turned_x.astype(np.float32)[None],
                turned_y.astype(np.float32)[None],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )[0]
            gain = seen - seen.mean() - (self.values - self.values.mean())
            weight = np.minimum(1.0, ROBUST / np.maximum(np.abs(gain), 1e-3)) / (NOISE**2 * ALIKE)
            weighted = self.by_motion * weight[:, None]
            system = weighted.T @ self.by_motion + self.prior_step + self.prior_whole
            pull = self.prior_step @ (now - start) + self.prior_whole @ now
            move = -np.linalg.solve(system, weighted.T @ gain + pull)
            now = now + move
            if np.abs(move / STEP_SPREAD).max() < 0.003:
                break
        a, b = seen - seen.mean(), self.values - self.values.mean()
        return now, float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6))


def _smooth(motion: np.ndarray) -> np.ndarray:
    """Second differences penalised with `SMOOTHING` (Whittaker)."""
    from scipy.linalg import solveh_banded

    frames = len(motion)
    if frames < 3:
        return motion
    band = np.zeros((3, frames))
    for a, va in ((0, 1.0), (1, -2.0), (2, 1.0)):
        for c, vc in ((0, 1.0), (1, -2.0), (2, 1.0)):
            if a >= c:
                band[a - c, c : frames - 2 + c] += SMOOTHING * va * vc
    band[0] += 1
    return solveh_banded(band, motion, lower=True)


def _matrices(motion: np.ndarray, middle: np.ndarray, scale: float) -> np.ndarray:
    """[T, 4] motions about `middle` (pixel centres at +0.5) -> [T, 2, 3] at `scale` times the size."""
    linear = np.stack([1 + motion[:, 2], -motion[:, 3], motion[:, 3], 1 + motion[:, 2]], 1).reshape(-1, 2, 2)
    shift = (middle + motion[:, :2] - linear @ middle) * scale
    return np.concatenate([linear, shift[..., None]], -1).astype(np.float32)
