"""The torso's own motion in the image: one small similarity a frame, from a reference frame.

Found by aligning the clothes (and the outline of the shoulders) of every frame with those of the reference.
Dark, plain clothes hold little to align: there the torso is taken to move as the head's pose lets expect,
degree by degree, so that the track stays put instead of drifting after shadows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nldf_engine.base.progress import Bar
from nldf_engine.datasets.format import LABELS
from nldf_engine.prepare.align import Aligner, Prior, matrices, small_gray
from nldf_engine.prepare.trajectory import smooth

WORK = 128  # pixels: the side that alignment runs at
OUTLINE = 3  # pixels beyond the reference's torso that count, so that its outline does
CLEAR_OF_HEAD = 5  # pixels
STEP_SPREAD = np.array([1.5, 1.5, 0.01, 0.01])  # x, y in pixels; scale, turn: usual change between frames
CUT_SPREAD = 5 * STEP_SPREAD  # change where a shot begins
WHOLE_SPREAD = np.array([40.0, 40.0, 0.04, 0.06])  # usual distance from the reference
PREDICTED_SPREAD = np.array([0.5, 0.5, 0.003, 0.003])  # at least, of the motion about what the head predicts
SLOPE = 3.0  # pose features, in standard deviations, that a motion of WHOLE_SPREAD takes at least
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
    frames: Iterable[np.ndarray],
    labels: Iterable[np.ndarray],
    total: int,
    reference: int,
    pose: np.ndarray | None = None,
    known: int | None = None,
    valid: np.ndarray | None = None,
    cuts: Sequence[int] = (),
    filmed: Callable[[int], np.ndarray | None] = lambda index: None,
) -> TorsoTrack:
    """Follows the torso.

    Args:
        frames: uint8 [S, S, 3]; labels: uint8 [S, S]; both streamed, `total` of them.
        reference: index of the frame that the others are compared with.
        pose: [T, F] numbers of the head's pose, from which the torso's motion is predicted linearly; None
            predicts that it holds still.
        known: how many frames, from the beginning, the prediction may be learned from; all where None.
        valid: bool [T], frames that show the torso as it is: in the others it is where their neighbours have
            it. All where None.
        cuts: frames that begin a shot, in which the torso may be anywhere.
        filmed: float32 [WORK, WORK] of frame `index`, 0 for the pixels that were guessed; None for none.
    """
    gray, area, side = _read(frames, labels, total, reference)
    motion = np.zeros((total, 4))
    match = np.zeros(total, np.float32)
    certainty, middle = np.zeros(4), np.zeros(2)
    if area.sum() >= SMALLEST:
        aligner = Aligner(gray[reference], area)
        middle = aligner.middle + 0.5
        whole = Prior.of(np.zeros(4), WHOLE_SPREAD)
        certainty = aligner.certainty([whole, Prior.of(np.zeros(4), STEP_SPREAD)])
        information = np.zeros((total, 4, 4))
        with Bar("following the torso", 2 * total, "frame") as bar:
            for order in (range(reference, total), range(reference - 1, -1, -1)):
                now = np.zeros(4)
                for index in order:
                    spread = CUT_SPREAD if _crosses(index, index >= reference, cuts) else STEP_SPREAD
                    priors = [whole, Prior.of(now, spread)]
                    found = aligner.align(gray[index], now, priors, filmed(index))
                    motion[index], now, information[index] = found.motion, found.motion, found.information
                    bar.step()
            trusted = information if valid is None else information * np.where(valid, 1, 1e-6)[:, None, None]
            expected, precision = _expected(motion, trusted, pose, known or total)
            for index in range(total):
                priors = [whole, Prior(expected[index], precision)]
                found = aligner.align(gray[index], motion[index], priors, filmed(index))
                motion[index], match[index] = found.motion, found.match
                information[index] = found.information + precision + whole.precision
                bar.step()
        usual = information.mean(0)
        if valid is not None:
            information[~valid] *= 1e-6
        motion = smooth(motion, information, SMOOTHING * usual, cuts)
        if valid is not None and valid.any():  # nothing is known beyond the first and the last of them
            known_frames = np.flatnonzero(valid)
            motion = motion[np.clip(np.arange(total), known_frames[0], known_frames[-1])]
        motion -= motion[reference]
    placed = matrices(motion, middle, side / WORK).astype(np.float32)
    return TorsoTrack(placed, reference, match, certainty.astype(np.float32))


def _read(
    frames: Iterable[np.ndarray], labels: Iterable[np.ndarray], total: int, reference: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """What alignment takes, and the frames' own side.

    Returns:
        gray: float32 [total, WORK, WORK], the frames.
        area: bool [WORK, WORK], where the reference frame shows torso, with its outline, clear of the head.
        side: pixels of a frame.
    """
    import cv2

    gray = np.empty((total, WORK, WORK), np.float32)
    side = WORK
    labelled: np.ndarray = np.zeros((WORK, WORK), np.uint8)
    for index, (frame, label) in enumerate(zip(frames, labels, strict=False)):
        side = frame.shape[0]
        gray[index] = small_gray(frame, WORK)
        if index == reference:
            labelled = cv2.resize(label, (WORK, WORK), interpolation=cv2.INTER_NEAREST_EXACT)
    torso = (labelled == LABELS["torso"]).astype(np.uint8)
    above = np.isin(labelled, (LABELS["head"], LABELS["neck"])).astype(np.uint8)
    disc = cv2.MORPH_ELLIPSE
    grown = cv2.dilate(torso, cv2.getStructuringElement(disc, (2 * OUTLINE + 1,) * 2))
    kept_off = cv2.dilate(above, cv2.getStructuringElement(disc, (2 * CLEAR_OF_HEAD + 1,) * 2))
    return gray, (grown > 0) & (kept_off == 0), side


def _crosses(index: int, forward: bool, cuts: Sequence[int]) -> bool:
    """Whether a cut lies between a frame and the one that was followed before it."""
    return (index if forward else index + 1) in cuts


def _expected(
    motion: np.ndarray, information: np.ndarray, pose: np.ndarray | None, known: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the head's pose predicts of the torso's motion [T, 4], and the precision [4, 4] of that.

    A linear regression in which every frame is weighted by how well its picture determines the motion, so
    that what could not be seen is predicted to hold still.
    """
    frames = len(motion)
    features = np.zeros((frames, 0)) if pose is None else np.asarray(pose, np.float64)
    features = features - features[:known].mean(0)
    spread = features[:known].std(0)
    features = features[:, spread > 1e-9] / spread[spread > 1e-9]
    features = np.concatenate([np.clip(features, -3, 3), np.ones((frames, 1))], 1)
    predicted, about = np.zeros_like(motion), np.zeros(4)
    for k in range(4):
        counts = information[:known, k, k]
        weighted = features[:known] * counts[:, None]
        pull = np.eye(features.shape[1]) * (SLOPE / WHOLE_SPREAD[k]) ** 2
        slope = np.linalg.solve(weighted.T @ features[:known] + pull, weighted.T @ motion[:known, k])
        predicted[:, k] = features @ slope
        about[k] = 1.4826 * np.median(np.abs(motion[:known, k] - predicted[:known, k]))
    return predicted, np.diag(1 / np.maximum(about, PREDICTED_SPREAD) ** 2)
