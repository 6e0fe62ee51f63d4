"""Frames in which a face is found, and that an avatar must not learn from all the same.

Dark or plain frames (fades, flashes) show nothing; a picture that stands still while somebody speaks teaches
that speech moves no lips; landmarks on a covered mouth are invented.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.datasets.problems import Problem

# Of the usual contrast: what a fade falls below, and what frames beside it are below that belong to it.
FAINT, WHOLE = 0.4, 0.9
FADE_ENDS = 5  # frames beside those, in which a fade is hardly seen yet and changes the exposure
HELD, HELD_SHARE = 0.05, 0.1  # gray levels between frames, and of the usual change, below which nothing moved
STILL_FRAMES = 10  # frames in a row that nothing may move in
SPEAKING_DB = 20.0  # below the loudness of speech, down to which a frame counts as loud
# Colour of the chin against the cheeks, levels of CrCb: clips of 14 speakers leave their usual one by 2 to 10
# levels at most, 8 times what is usual for each, and a strange colour does so for a while.
STRANGE, STRANGE_TIMES = 8.0, 5.0
COVERED_FRAMES = 5
HAND_POINTS = 2  # of a hand's 21 on the mouth
HAND_EVERY = 8  # frames from one look for hands to the next
# fmt: off
LOWER_FACE = (2, 61, 291, 152, 17, 200, 58, 288, 172, 397)  # nose to chin
# fmt: on
ANCHORS = (33, 263, 2)  # outer corners of the eyes and the nose's base, and where a patch has them
PATCH = (48, 56)  # pixels, width and height of the patch of a face
PLACES = ((12, 16), (36, 16), (24, 32))
CHIN = (slice(40, 54), slice(16, 32))
CHEEKS = (slice(22, 30), (slice(8, 14), slice(34, 40)))


def chin_colour(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """CrCb of the chin less that of the cheeks, float32 [2], of a frame [S, S, 3] and landmarks [478, 2+]."""
    import cv2

    matrix = cv2.getAffineTransform(
        points[list(ANCHORS), :2].astype(np.float32), np.array(PLACES, np.float32)
    )
    patch = cv2.warpAffine(frame, matrix, PATCH, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    tones = cv2.cvtColor(patch, cv2.COLOR_RGB2YCrCb).astype(np.float32)[..., 1:]
    cheeks = np.concatenate([tones[CHEEKS[0], side].reshape(-1, 2) for side in CHEEKS[1]])
    made: np.ndarray = tones[CHIN].reshape(-1, 2).mean(0) - cheeks.mean(0)
    return made


def on_mouth(hands: np.ndarray, points: np.ndarray) -> int:
    """How many points of hands [N, 2] lie between nose and chin of landmarks [478, 2+]."""
    import cv2

    hull = cv2.convexHull(points[list(LOWER_FACE), :2].astype(np.float32))
    return sum(cv2.pointPolygonTest(hull, (float(x), float(y)), False) >= 0 for x, y in hands)


@dataclass(frozen=True)
class Spoilt:
    """What is wrong with frames, bool [T] each."""

    faint: np.ndarray
    still: np.ndarray
    covered: np.ndarray

    @property
    def any(self) -> np.ndarray:
        """[T] whether anything is."""
        made: np.ndarray = self.faint | self.still | self.covered
        return made

    def problems(self, fps: float) -> list[Problem]:
        """What a person should know of it."""
        found = []
        if self.faint.any():
            what = f"{_times(self.faint, fps)} the picture fades or is dark"
            found.append(Problem("fades", f"{what}; those frames are left out", "", "note"))
        if self.still.any():
            seconds = (self.still.sum() + len(runs(self.still))) / fps
            where = _times(self.still, fps)
            what = f"the picture stands still for {seconds:.1f} s while the sound goes on, {where}"
            remedy = "record again, or cut the stretch out; those frames are left out"
            found.append(Problem("picture", what, remedy, "warning"))
        if self.covered.any():
            what = f"something covers the mouth {_times(self.covered, fps)}"
            remedy = "keep hands, microphones and paper off the mouth; those frames are left out"
            found.append(Problem("mouth", what, remedy, "warning"))
        return found


def find_spoilt(tracked: dict[str, np.ndarray], samples: np.ndarray | None) -> Spoilt:
    """Judges frames by what `track` has measured of them.

    Args:
        tracked: of `track`, T frames.
        samples: [N] of the sound, 16 kHz mono; None where there is none.
    """
    valid = tracked["valid"]
    still = _held(tracked["changes"])
    if samples is None:
        still[:] = False  # without sound nothing wrong is taught
    else:
        loud = speech_heard(samples, len(valid))
        for begin, end in runs(still):
            still[begin:end] &= bool(loud[begin:end].mean() > 0.2)
    return Spoilt(_faint(tracked["thumbs"], valid), still, _covered(tracked, valid))


def _faint(thumbs: np.ndarray, valid: np.ndarray) -> np.ndarray:
    contrast = thumbs.mean(-1, dtype=np.float32).reshape(len(thumbs), -1).std(1)
    usual = float(np.median(contrast[valid])) if valid.any() else float(np.median(contrast))
    made = np.zeros(len(contrast), bool)
    for begin, end in runs(contrast < WHOLE * usual):
        if contrast[begin:end].min() < FAINT * usual:  # the whole of a fade, as far as it goes
            # A cut, which is faint at once, has no ends.
            before, behind = (FADE_ENDS * int(contrast[edge] >= FAINT * usual) for edge in (begin, end - 1))
            made[max(0, begin - before) : end + behind] = True
    return made


def _held(changes: np.ndarray) -> np.ndarray:
    """Frames [T] of stretches in which nothing moves, but for the first frame of each."""
    moving = changes[changes > HELD]
    held = changes <= min(HELD, HELD_SHARE * float(np.median(moving)) if len(moving) else HELD)
    for begin, end in runs(held):
        if end - begin < STILL_FRAMES:
            held[begin:end] = False
    return held


def speech_heard(samples: np.ndarray, total: int) -> np.ndarray:
    """[T] whether each frame's sound is about as loud as speech."""
    step = round(SAMPLE_RATE / FPS)
    padded = np.pad(samples[: total * step], (0, max(0, total * step - len(samples))))
    level = 10 * np.log10((padded.reshape(total, step) ** 2).mean(1) + 1e-8)
    made: np.ndarray = level > max(float(np.percentile(level, 90)) - SPEAKING_DB, -60.0)
    return made


def _covered(tracked: dict[str, np.ndarray], valid: np.ndarray) -> np.ndarray:
    if not valid.any():
        return np.zeros(len(valid), bool)
    colour = tracked["chin"] - np.median(tracked["chin"][valid], axis=0)
    away = np.where(valid, np.linalg.norm(colour, axis=1), 0.0)
    strange = away > max(STRANGE, STRANGE_TIMES * float(np.median(away[valid])))
    for begin, end in runs(strange):
        if end - begin < COVERED_FRAMES:
            strange[begin:end] = False
    for at in np.flatnonzero(tracked["hands"] >= HAND_POINTS):
        strange[max(0, at - HAND_EVERY + 1) : at + HAND_EVERY] = True
    made: np.ndarray = strange & valid
    return made


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """[start, end) of every run of True in bool [T]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _times(flags: np.ndarray, fps: float) -> str:
    """ "at 2.0 to 3.5 s and 3 more places"."""
    found = runs(flags)
    begin, end = found[0]
    more = f" and {len(found) - 1} more places" if len(found) > 2 else ""
    more = " and at another place" if len(found) == 2 else more
    return f"at {begin / fps:.1f} to {end / fps:.1f} s{more}"
