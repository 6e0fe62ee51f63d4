"""Do the lips belong to the sound? Retrieval and offset by the judge that comes with the package (`nn.sync`).

Windows of the lips' movement are compared with windows of the clip's own sound. Retrieval is how often a
window's own sound is the most similar one among itself and ten others of the clip: the lips must fit this
moment better than others. The offset is the shift of the sound at which lips and sound are most similar on
average. The judge computes its own features of the sound, so that avatars with any front-end, and any video,
are judged alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nldf_engine.audio import SAMPLE_RATE, features, is_silent
from nldf_engine.base.clock import FPS
from nldf_engine.evaluation.metrics.inputs import checked_landmarks
from nldf_engine.nn.sync import APART, NEGATIVES, SyncJudge, cosine, cut, last_rows, lip_movement

LONGEST_OFFSET = 15  # frames
FEWEST_WINDOWS = 10
"""A mean similarity is given from this many windows on."""


@dataclass(frozen=True)
class JudgedSync:
    """How lips fit the sound; None where it can't be said.

    Args:
        retrieval: share of windows whose own sound is picked among 11; chance is 1/11.
        offset: frames by which the lips come late; below zero they come early.
        margin: the mean similarity at that offset less the median over all offsets.
        reason: why a value is None; empty otherwise.
    """

    retrieval: float | None
    offset: int | None
    margin: float | None
    reason: str = ""


def _picked(total: float, better: np.ndarray, others: int) -> np.ndarray:
    """The share of draws of `others` of `total` that hold none of the `better` ones [K]."""
    shares = np.ones(len(better))
    for drawn in range(others):
        shares *= ((total - better - drawn) / (total - drawn)).clip(0)
    return shares


def retrieval(similarity: np.ndarray, others: int = NEGATIVES, apart: int = APART) -> float | None:
    """The share of windows whose own sound is more similar than each of `others` drawn from the rest.

    It is the expectation over all draws, so nothing is left to chance: of n others, b of them more similar,
    the own one is picked in C(n - b, others) / C(n, others) of the draws. Equals are picked equally often.

    Args:
        similarity: [S, S], of the lips of window i and the sound of window j, a frame further each; a row
            without lips is NaN.
        others: drawn.
        apart: frames that a window and the others are at least apart.

    Returns:
        The share; None where no window has lips and `others` others.

    Raises:
        ValueError: another shape.

    Example:
        >>> retrieval(np.eye(40)), round(11 * float(retrieval(np.zeros((40, 40)))), 6)
        (1.0, 1.0)
    """
    count = len(similarity)
    if similarity.shape != (count, count):
        raise ValueError(f"similarity: expected [S, S], got {list(similarity.shape)}")
    shares, at = [], np.arange(count)
    for own, row in enumerate(similarity):
        rest = row[np.abs(at - own) >= apart]
        if len(rest) >= others and np.isfinite(row).all():
            better, equal = int((rest > row[own]).sum()), int((rest == row[own]).sum())
            shares.append(_picked(len(rest), better + np.arange(equal + 1.0), others).mean())
    return float(np.mean(shares)) if shares else None


def mean_similarities(similarity: np.ndarray, most: int = LONGEST_OFFSET) -> np.ndarray:
    """The mean similarity of lips and of the sound some frames before them, by that number of frames.

    Args:
        similarity: [S, S] as for `retrieval`.
        most: frames.

    Returns:
        [2 most + 1] float64 from -most to most; NaN where fewer than `FEWEST_WINDOWS` are left.
    """
    shifts = range(-most, most + 1)
    found = [np.diagonal(similarity, -shift) for shift in shifts]
    kept = [values[np.isfinite(values)] for values in found]
    return np.array([values.mean() if len(values) >= FEWEST_WINDOWS else np.nan for values in kept])


class JudgeScorer:
    """The judge on the sound of one clip; several runs of lips are held against it.

    Args:
        judge: the networks.
        samples: [N] float32 at 16 kHz, the clip's own sound from its first frame on.
        frames: F, of the clip.

    Raises:
        FileProblem: the front-end's weights are missing, or others than the judge was trained on.
    """

    def __init__(self, judge: SyncJudge, samples: np.ndarray, frames: int) -> None:
        self._judge, self._frames, self.reason = judge, frames, ""
        if frames < judge.frames + APART:
            self.reason = f"the stretch has {frames} frames, and it needs {judge.frames + APART}"
        elif not len(samples):
            self.reason = "there is no sound"
        elif is_silent(samples):
            self.reason = "the sound is silent"
        if not self.reason:
            heard = torch.from_numpy(features(np.asarray(samples, np.float32), judge.frontend, frames).copy())
            with torch.inference_mode():
                self._audio = judge.audio(cut(last_rows(heard), judge.frames))

    def similarity(self, landmarks: np.ndarray) -> np.ndarray:
        """[S, S] float64 of lips of window i and sound of window j; a row with a frame without a face is NaN.

        Args:
            landmarks: [F, 478, 2] pixels, or any unit; NaN where no face was found.

        Raises:
            ValueError: another shape, or another number of frames.
        """
        points = checked_landmarks(landmarks, "landmarks")
        if len(points) != self._frames:
            raise ValueError(f"landmarks: expected {self._frames} frames, as the clip has, got {len(points)}")
        with torch.inference_mode():
            movement = cut(lip_movement(torch.from_numpy(points)).float(), self._judge.frames)
            return cosine(self._judge.lips(movement), self._audio).double().numpy()

    def __call__(self, landmarks: np.ndarray) -> JudgedSync:
        """Retrieval and offset of the lips of landmarks [F, 478, 2], as `similarity`."""
        if self.reason:
            return JudgedSync(None, None, None, self.reason)
        similarity = self.similarity(landmarks)
        means = mean_similarities(similarity)
        if not np.isfinite(means).any():
            window = self._judge.frames
            return JudgedSync(
                None, None, None, f"no {FEWEST_WINDOWS} stretches of {window} frames have a face"
            )
        best = int(np.nanargmax(means))
        share = retrieval(similarity)
        reason = "" if share is not None else f"no window has {NEGATIVES} others that are {APART} frames away"
        return JudgedSync(share, best - LONGEST_OFFSET, float(means[best] - np.nanmedian(means)), reason)


def rate_problem(rate: int, fps: float) -> str:
    """Why a clip of `rate` samples and `fps` scored frames a second can't be judged; empty where it can."""
    if fps != FPS:
        return f"the judge needs {FPS:g} frames a second, these are {fps:g}"
    return "" if rate == SAMPLE_RATE else f"the judge needs sound at {SAMPLE_RATE} Hz, this has {rate}"
