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
LIGHT = 0.2  # cheeks that change by this share of what the chin does say that the light has changed
UNSEEN_FRAMES = 10  # without lips
BARE = 0.1  # share of the frames in which lips must be seen, to say what colour the chin has
HAND_POINTS = 2  # of a hand's 21 on the mouth
HAND_EVERY = 8  # frames from one look for hands to the next
# fmt: off
LOWER_FACE = (2, 61, 291, 152, 17, 200, 58, 288, 172, 397)  # nose to chin
# fmt: on
ANCHORS = (33, 263, 2)  # outer corners of the eyes and the nose's base, and where a patch has them
PATCH = (96, 112)  # pixels, width and height of the patch of a face
PLACES = ((24, 32), (72, 32), (48, 64))
CHIN = (slice(80, 108), slice(32, 64))
CHEEKS = (slice(44, 60), (slice(16, 28), slice(68, 80)))
# fmt: off
OUTLINE = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
OPENING = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
# fmt: on
AROUND = (1.3, 1.7)  # of the lips' outline: from where to where it is skin
LINES, LINE_STEPS = ((0, 17), (37, 84), (267, 314)), 16  # across the lips, from above to below
# Lips are seen in 80 to 100 % of the frames of 42 clips of real speakers, moustaches and soft pictures among
# them, and in all frames of five minutes of twelve of them; of the same clips with boxes, paper or upright
# fingers before the mouth in next to none.
RED = 3.0  # levels of Cr
EDGES = 1.6  # times the steps of light around them
DARK = 0.12  # of the light around them
NO_SKIN = 24.0  # levels of CrCb between chin and cheeks; 19 at most in those clips
HIDDEN = 0.3  # share of the frames with lips, below which nobody sees the mouth


def look_at_mouth(frame: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, bool]:
    """What lies where the mouth should be, of a frame [S, S, 3] and landmarks [478, 2+].

    Returns:
        CrCb of the chin and of the cheeks, float32 [2, 2]; and whether lips are seen, redder than what is
        around them, or standing out of it by a dark line or by edges. Landmarks on what covers a mouth are
        where none of that is, or at its rim.
    """
    import cv2

    matrix = cv2.getAffineTransform(
        points[list(ANCHORS), :2].astype(np.float32), np.array(PLACES, np.float32)
    )
    patch = cv2.warpAffine(frame, matrix, PATCH, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    tones = cv2.cvtColor(patch, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    cheeks = np.concatenate([tones[CHEEKS[0], side, 1:].reshape(-1, 2) for side in CHEEKS[1]])
    skin = np.stack([tones[CHIN][..., 1:].reshape(-1, 2).mean(0), cheeks.mean(0)])
    placed = (points[:, :2] @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    return skin, bool(np.linalg.norm(skin[0] - skin[1]) <= NO_SKIN) and _lips_seen(tones, placed)


def _lips_seen(tones: np.ndarray, points: np.ndarray) -> bool:
    """Whether lips are seen, of a patch in YCrCb [h, w, 3] and landmarks [478, 2] in it."""
    import cv2

    def inside(outline: tuple[int, ...], grown: float) -> np.ndarray:
        middle = points[list(outline)].mean(0)
        corners = np.round((middle + grown * (points[list(outline)] - middle)) * 8).astype(np.int32)
        found = np.zeros(tones.shape[:2], np.uint8)
        cv2.fillPoly(found, [corners], (1,), shift=3)
        return found > 0

    mouth = inside(OUTLINE, 1.0)
    lips, around = mouth & ~inside(OPENING, 1.0), inside(OUTLINE, AROUND[1]) & ~inside(OUTLINE, AROUND[0])
    if not lips.any() or not around.any():
        return False
    light = np.ascontiguousarray(tones[..., 0])
    if float(tones[lips, 1].mean() - tones[around, 1].mean()) > RED:
        return True
    edges = np.abs(cv2.Sobel(light, cv2.CV_32F, 0, 1)) / 8
    if float(edges[mouth].mean()) > EDGES * (float(edges[around].mean()) + 0.5):
        return True
    steps = np.linspace(0, 1, LINE_STEPS, dtype=np.float32)[:, None]
    dips = []
    for above, below in LINES:
        line = points[above] + steps * (points[below] - points[above])
        along = cv2.remap(light, line[None, :, 0], line[None, :, 1], cv2.INTER_LINEAR)[0]
        dips.append(min(along[0], along[-1]) - along.min())
    return float(np.median(dips)) > DARK * float(light[around].mean())


def on_mouth(hands: np.ndarray, points: np.ndarray) -> int:
    """How many points of hands [N, 2] lie between nose and chin of landmarks [478, 2+]."""
    import cv2

    hull = cv2.convexHull(points[list(LOWER_FACE), :2].astype(np.float32))
    return sum(cv2.pointPolygonTest(hull, (float(x), float(y)), False) >= 0 for x, y in hands)


@dataclass(frozen=True)
class Spoilt:
    """What is wrong with frames, bool [T] each; and whether lips are hidden in nearly all of them."""

    faint: np.ndarray
    still: np.ndarray
    covered: np.ndarray
    hidden: bool = False

    @property
    def any(self) -> np.ndarray:
        """[T] whether anything is."""
        made: np.ndarray = self.faint | self.still | self.covered
        return made

    def problems(self, fps: float) -> list[Problem]:
        """What a person should know of it."""
        found = []
        if self.faint.any():
            what = f"{times(self.faint, fps)} the picture fades or is dark"
            found.append(Problem("fades", f"{what}; those frames are left out", "", "note"))
        if self.still.any():
            seconds = (self.still.sum() + len(runs(self.still))) / fps
            where = times(self.still, fps)
            what = f"the picture stands still for {seconds:.1f} s while the sound goes on, {where}"
            remedy = "record again, or cut the stretch out; those frames are left out"
            found.append(Problem("picture", what, remedy, "warning"))
        if self.covered.any():
            what = f"something covers the mouth {times(self.covered, fps)}, or it is out of focus"
            remedy = "keep hands, microphones and paper off the mouth; those frames are left out"
            found.append(Problem("mouth", what, remedy, "warning"))
        if self.hidden:
            what = "no lips are seen: something covers the mouth throughout, or it is too dark or too soft"
            remedy = "film the mouth uncovered, sharp and in the light"
            found.append(Problem("mouth", what, remedy, "severe"))
        return found


def find_spoilt(tracked: dict[str, np.ndarray], samples: np.ndarray | None) -> Spoilt:
    """Judges frames by what `track` has measured of them.

    Args:
        tracked: of `track`, T frames.
        samples: [N] of the sound, 16 kHz mono; None where there is none.
    """
    valid = tracked["valid"]
    still = _held(tracked["changes"]) & valid
    if samples is None:
        still[:] = False  # without sound nothing wrong is taught
    else:
        loud = speech_heard(samples, len(valid))
        for begin, end in runs(still):
            still[begin:end] &= bool(loud[begin:end].mean() > 0.2)
    hidden = bool(valid.any()) and float(tracked["lips"][valid].mean()) < HIDDEN
    faint = _faint(tracked["thumbs"], valid)
    covered = np.zeros_like(valid) if hidden else _covered(tracked, valid) & ~faint
    return Spoilt(faint, still, covered, hidden)


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
    # What covers the mouth for most of the time is not what is usual, as long as lips are seen at times.
    bare = valid & tracked["lips"]
    bare = bare if bare.sum() >= BARE * valid.sum() else valid
    colours = tracked["skin"] - np.median(tracked["skin"][bare], axis=0)
    away = np.where(valid, np.linalg.norm(colours[:, 0] - colours[:, 1], axis=1), 0.0)
    strange = away > max(STRANGE, STRANGE_TIMES * float(np.median(away[bare])))
    for begin, end in runs(strange):
        # Where lips are seen all the while, and the cheeks have another colour too, it is the light that has
        # changed. The rim of what covers the mouth may be taken for lips.
        moved = float(np.median(np.linalg.norm(colours[begin:end, 1], axis=1) / away[begin:end]))
        lit = moved > LIGHT and float(tracked["lips"][begin:end].mean()) > 0.5
        if end - begin < COVERED_FRAMES or lit:
            strange[begin:end] = False
    for begin, end in runs(valid & ~tracked["lips"]):
        strange[begin:end] |= end - begin >= UNSEEN_FRAMES
    for at in np.flatnonzero(tracked["hands"] >= HAND_POINTS):
        strange[max(0, at - HAND_EVERY + 1) : at + HAND_EVERY] = True
    made: np.ndarray = strange & valid
    return made


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """[start, end) of every run of True in bool [T]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def times(flags: np.ndarray, fps: float) -> str:
    """ "at 2.0 to 3.5 s and 3 more places"; of a single frame "at 2.0 s"."""
    found = runs(flags)
    begin, end = found[0]
    more = f" and {len(found) - 1} more places" if len(found) > 2 else ""
    more = " and at another place" if len(found) == 2 else more
    until = f" to {end / fps:.1f}" if end - begin > 1 else ""
    return f"at {begin / fps:.1f}{until} s{more}"
