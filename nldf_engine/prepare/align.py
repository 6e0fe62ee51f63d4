"""Aligning a picture with a reference over an area: Lucas-Kanade for a similarity, with priors.

What the picture does not decide (a plain backdrop, dark clothes), the priors do, direction by direction:
an alignment reports the information that the picture itself gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ROUNDS = 12
NOISE = 4.0  # gray levels: what two aligned frames differ by
ALIKE = 30.0  # pixels that carry one independent observation (noise is correlated)
ROBUST = 10.0  # gray levels: larger differences lose weight (shadows of the chin, a hand)
SETTLED = np.array([0.005, 0.005, 3e-5, 3e-5])  # steps below it end the search
FLATTEST = 30.0  # gray levels^2 of variance that the contrast's prior is worth


@dataclass(frozen=True)
class Prior:
    """A Gaussian over the four motions: middle [4], precision [4, 4]."""

    middle: np.ndarray
    precision: np.ndarray

    @classmethod
    def of(cls, middle: np.ndarray, spread: np.ndarray) -> Prior:
        """Independent motions with standard deviations `spread` [4]."""
        return cls(middle, np.diag(1 / spread**2))


@dataclass(frozen=True)
class Alignment:
    """What aligning one picture found.

    Args:
        motion: [4]: x, y in pixels, scale - 1, turn (sine), about the aligner's middle.
        match: correlation that is reached, in [-1, 1].
        information: [4, 4], what the picture says of the motion, priors left out.
    """

    motion: np.ndarray
    match: float
    information: np.ndarray


class Aligner:
    """Lucas-Kanade from `reference` [s, s] float32 where `area` [s, s] is true.

    Motions (see `Alignment`) are about `middle` (x, y), by default the area's.
    """

    def __init__(self, reference: np.ndarray, area: np.ndarray, middle: np.ndarray | None = None) -> None:
        import cv2

        y, x = np.nonzero(area)
        self.middle = np.array([x.mean(), y.mean()]) if middle is None else middle
        self.x, self.y = (x - self.middle[0]).astype(np.float32), (y - self.middle[1]).astype(np.float32)
        self.values = reference[area]
        gx = cv2.Sobel(reference, cv2.CV_32F, 1, 0, scale=1 / 8)[area]
        gy = cv2.Sobel(reference, cv2.CV_32F, 0, 1, scale=1 / 8)[area]
        self.by_motion = np.stack([gx, gy, gx * self.x + gy * self.y, gy * self.x - gx * self.y], 1)
        self.information = self.by_motion.T @ self.by_motion / (NOISE**2 * ALIKE)

    def certainty(self, priors: Sequence[Prior]) -> np.ndarray:
        """Share [4] in [0, 1] of each motion that a whole picture decides, the priors the rest."""
        given = np.sum([prior.precision for prior in priors], axis=0)
        return np.diag(np.linalg.solve(self.information + given, self.information)).copy()

    def places(self, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and y [N] float32, pixels of the moved picture, of the area's pixels."""
        x = self.x * (1 + motion[2]) - self.y * motion[3] + self.middle[0] + motion[0]
        y = self.x * motion[3] + self.y * (1 + motion[2]) + self.middle[1] + motion[1]
        return x.astype(np.float32), y.astype(np.float32)

    def align(
        self,
        picture: np.ndarray,
        start: np.ndarray,
        priors: Sequence[Prior],
        counts: np.ndarray | None = None,
    ) -> Alignment:
        """The motion near `start` that makes the picture fit.

        Args:
            picture: float32 [s, s].
            start: [4].
            priors: Gaussians that it is held against.
            counts: float32 [s, s] in [0, 1], how much each pixel of the picture counts; with it, what falls
                outside of the picture does not count, and a change of contrast is allowed for.
        """
        now = start.copy()
        for round_number in range(ROUNDS):
            x, y = self.places(now)
            seen = sample(picture, x, y)
            weight = np.ones_like(seen)
            if counts is not None:
                inside = (x >= 0) & (y >= 0) & (x <= picture.shape[1] - 1) & (y <= picture.shape[0] - 1)
                weight = sample(counts, x, y) * inside
            off = self._difference(seen, weight, contrast=counts is not None)
            weight = weight * np.minimum(1.0, ROBUST / np.maximum(np.abs(off), 1e-3)) / (NOISE**2 * ALIKE)
            weighted = self.by_motion * weight[:, None]
            information = weighted.T @ self.by_motion
            system, pull = information.astype(np.float64), weighted.T @ off
            for prior in priors:
                system = system + prior.precision
                pull = pull + prior.precision @ (now - prior.middle)
            move = -np.linalg.solve(system, pull)
            now = now + move
            if round_number and (np.abs(move) < SETTLED).all():
                break
        a, b = seen - _mean(seen, weight), self.values - _mean(self.values, weight)
        spread = float(np.sqrt((weight * a * a).sum() * (weight * b * b).sum()))
        return Alignment(now, float((weight * a * b).sum()) / max(spread, 1e-9), information)

    def _difference(self, seen: np.ndarray, weight: np.ndarray, contrast: bool) -> np.ndarray:
        """What `seen` [N] differs by beside brightness, and with `contrast` beside contrast."""
        a, b = seen - _mean(seen, weight), self.values - _mean(self.values, weight)
        if not contrast:
            return a - b
        share = weight / max(float(weight.sum()), 1e-6)
        variance = float((share * b * b).sum())
        gain = (float((share * a * b).sum()) + FLATTEST) / (variance + FLATTEST)
        return a / float(np.clip(gain, 0.5, 2.0)) - b


def sample(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples [N] or [N, C] of a picture at pixels x, y [N] float32 (centres at whole numbers)."""
    import cv2

    found = cv2.remap(picture, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found[0]


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float((values * weight).sum() / max(float(weight.sum()), 1e-9))


def matrices(motion: np.ndarray, middle: np.ndarray, scale: float) -> np.ndarray:
    """[T, 4] motions about `middle` (pixel centres at +0.5) -> [T, 2, 3] at `scale` times the size."""
    linear = np.stack([1 + motion[:, 2], -motion[:, 3], motion[:, 3], 1 + motion[:, 2]], 1).reshape(-1, 2, 2)
    shift = (middle + motion[:, :2] - linear @ middle) * scale
    return np.concatenate([linear, shift[..., None]], -1)


def small_gray(frame: np.ndarray, side: int) -> np.ndarray:
    """A frame uint8 [S, S, 3] as alignment takes it: gray, [side, side] float32, slightly blurred."""
    import cv2

    small = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (side, side), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.2)
