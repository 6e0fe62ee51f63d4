"""Lips against sound: which moment of a known speech a picture shows, and which is heard when it is shown.

The avatar is rendered offline, saying the very speech, every 20 ms of it. Pictures that were shown somewhere
are looked up among these by their mouths, a few consecutive ones at a time: single mouths look alike, and
their movement does not. A sound that was heard somewhere is looked up in the speech by correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.live.client import RATE
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, Gate, MouthEdit

SIDE = 128
"""Pictures are compared at so many pixels a side."""
STEP = 0.02
"""Seconds between two moments of which pictures are known."""
BEFORE = 2.0  # seconds of silence before the speech, and behind it
PARTS = 12  # numbers that a mouth is known by
TOGETHER = 9  # consecutive pictures that are looked up at a time
# Lags between lips and sound that are tried, seconds. One is known where no lag further than NEAR from it
# fits nearly as well: by a ratio of distances.
REACH, GRID, NEAR, DISTINCT = 0.4, 0.005, 0.06, 0.8
WINDOW, HOP, ALIKE = 0.5, 0.1, 0.7  # pieces of sound that are looked up: seconds, and the least correlation


@dataclass(frozen=True)
class Spoken:
    """What a known speech looks like.

    Args:
        speech: float32 [n] at RATE.
        times: [T] seconds in the speech, of what is known.
        mouths: [T, h, w] grey levels about the mouth.
        box: (x, y, w, h) of the mouth in pictures of SIDE pixels.
    """

    speech: np.ndarray
    times: np.ndarray
    mouths: np.ndarray
    box: tuple[int, int, int, int]

    @cached_property
    def _basis(self) -> np.ndarray:
        """[h w, PARTS] what mouths mostly differ by, so that a codec's noise hardly counts."""
        flat = self._flat - self._flat.mean(0)
        return np.asarray(np.linalg.eigh(flat.T @ flat)[1][:, -PARTS:])

    @cached_property
    def _flat(self) -> np.ndarray:
        return self.mouths.reshape(len(self.mouths), -1).astype(np.float64)

    def lags(self, mouths: np.ndarray, heard: np.ndarray) -> np.ndarray:
        """[N] seconds by which pictures show what was heard before; NaN where that is unclear.

        A picture's lag is the one at which it and the four to either side fit the speech best. Greys may be
        stretched and moved, as some codecs' are: for all pixels alike, so that the mean pictures are equal.

        Args:
            mouths: [N, h, w] of consecutive pictures.
            heard: [N] second of the speech that was heard when each was shown; NaN where nothing was.
        """
        flat = mouths.reshape(len(mouths), -1).astype(np.float64)
        stretch, move = np.polyfit(flat.mean(0), self._flat.mean(0), 1)
        known, seen = self._flat @ self._basis, (stretch * flat + move) @ self._basis
        tried = np.arange(-REACH, REACH + GRID / 2, GRID)
        shown = np.nan_to_num(heard)[:, None] - tried
        places = ((shown - self.times[0]) / STEP).clip(0, len(known) - 1.001)
        lower = places.astype(int)
        share = (places - lower)[..., None]
        apart = np.square((1 - share) * known[lower] + share * known[lower + 1] - seen[:, None]).sum(2)
        apart[np.isnan(heard)] = np.nan
        found = np.full(len(mouths), np.nan)
        for middle in range(TOGETHER // 2, len(mouths) - TOGETHER // 2):
            fit = apart[middle - TOGETHER // 2 : middle + TOGETHER // 2 + 1].sum(0)
            lag = tried[fit.argmin()]
            others = fit[np.abs(tried - lag) > NEAR]
            if np.sqrt(fit.min()) < DISTINCT * np.sqrt(others.min()):
                found[middle] = lag
        return found

    def places(self, sound: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
        """(middles, offsets) of the pieces of a sound [n] at `rate` that are of the speech, seconds.

        What is heard at the second t about a middle is the speech at t - offset.
        """
        import soxr
        from scipy.signal import fftconvolve

        heard = soxr.resample(sound.astype(np.float32), rate, RATE) if rate != RATE else sound
        size, middles, offsets = round(WINDOW * RATE), [], []
        power = np.convolve(np.square(self.speech, dtype=np.float64), np.ones(size), "valid")
        loud = np.sqrt(power.clip(1e-9))
        for first in range(0, len(heard) - size + 1, round(HOP * RATE)):
            piece = heard[first : first + size].astype(np.float64)
            strength = float(np.linalg.norm(piece))
            if strength < 0.005 * np.sqrt(size):
                continue
            alike = fftconvolve(self.speech, piece[::-1], "valid") / (loud * strength)
            at = int(alike.argmax())
            if alike[at] > ALIKE and loud[at] > 0.005 * np.sqrt(size):
                middles.append((first + size / 2) / RATE)
                offsets.append((first - at) / RATE)
        return np.array(middles), np.array(offsets)


def offset_at(times: np.ndarray, middles: np.ndarray, offsets: np.ndarray, reach: float = 0.3) -> np.ndarray:
    """[N] the offset of the piece nearest to each of `times` [N]; NaN where none is within `reach`."""
    if not len(middles):
        return np.full(len(times), np.nan)
    nearest = np.abs(times[:, None] - middles[None]).argmin(1)
    return np.where(np.abs(times - middles[nearest]) <= reach, offsets[nearest], np.nan)


def spoken(folder: Path, speech: np.ndarray) -> Spoken:
    """An avatar saying a speech [n], int16 at RATE, its head still, as a live session would draw it."""
    import cv2

    engine = Engine.load(folder)
    gated = engine.motion_codes and engine.avatar.frontend.kind.levels is not None
    edit = Edit(mouth=MouthEdit(gate=Gate())) if gated else None
    said = speech.astype(np.float32) / 32_768
    shifts = round(1 / 25 / STEP)
    known: dict[float, np.ndarray] = {}
    for shift in range(shifts):
        before = np.zeros(round((BEFORE + shift * STEP) * RATE), np.float32)
        sound = np.concatenate([before, said, np.zeros(round(BEFORE * RATE), np.float32)])
        for number, picture in enumerate(engine.render((sound, RATE), "still", edit=edit).frames):
            small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            known[round(number / 25 - BEFORE - shift * STEP, 3)] = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    times = np.array(sorted(known))
    grey = np.stack([known[time] for time in times])
    box = mouth_of(grey)
    x, y, width, height = box
    return Spoken(said, times, grey[:, y : y + height, x : x + width], box)


def mouth_of(grey: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, w, h) about what moves most in the lower half of pictures [T, SIDE, SIDE] of a still head."""
    moves = grey.astype(np.float32).std(0)
    moves[: SIDE // 2] = 0  # lids and brows
    rows, columns = np.nonzero(moves > 0.25 * moves.max())
    (top, bottom), (left, right) = (np.percentile(found, (2, 98)).astype(int) for found in (rows, columns))
    return int(left) - 2, int(top) - 2, int(right - left) + 5, int(bottom - top) + 5
