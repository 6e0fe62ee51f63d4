"""The default front-end: 29 log-mel bands at 50 Hz. It needs no weights, and its delay is bounded.

A row is computed in four steps from 32 ms of sound about its middle:

1. pre-emphasis y[n] - 0.97 y[n-1], which evens out the fall of speech towards high frequencies;
2. the power E_b in 29 mel bands from 80 to 7600 Hz (Hann window, 512 samples), so that a constant offset
   and rumble are not seen;
3. the level of the voice L in dB: what a tenth of the last ten seconds' active rows exceed, this row
   included. A row is active above -70 dB, and not 30 dB below what a tenth of those exceed (two gates, as
   programme loudness has them in ITU-R BS.1770). So neither pauses nor a slammed door move it much. Near the
   start of a sound it is blended with a typical level: half and half after half a second of active rows,
   4 % of it after two and a half;
4. feature_b = log10(1 + 10^5 E_b / 10^(L/10)) / 2: 0 where a band is well over 50 dB under the voice,
   1 where it is 30 dB under, 2 where it is 10 dB under.

So a recording's gain hardly matters (step 3), silence is exactly 0 (step 4), the same as the padding
outside of the sound, and a background more than 50 dB below the voice is hardly seen. Nothing is learned,
kept between sounds or measured over a whole file: frame t depends on the samples
[640 t - LOOK_BACK, 640 t + LOOK_AHEAD) alone.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from nldf_engine.audio.interface import Frontend
from nldf_engine.audio.windows import BEFORE, ROW, WINDOW, count_rows
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.progress import Bar

BANDS = 29
FFT = 512  # samples; 32 ms
LOWEST_HZ, HIGHEST_HZ = 80.0, 7600.0
PRE_EMPHASIS = 0.97
LEVEL_ROWS = 500  # ten seconds
LEVEL_SHARE = 0.1  # of the active rows are louder than the level
ACTIVE_DB = -70.0  # after pre-emphasis, which takes about 13 dB from speech
GATE_DB = 30.0
TYPICAL_DB = -36.0  # the level of speech of -26 dBFS, after pre-emphasis
TYPICAL_ROWS = 25
RANGE_DB = 50.0
SCALE = 0.5
BEFORE_ROW = FFT // 2 - ROW // 2  # samples by which a row's spectrum begins before the row

# What of the sound frame t sees, in samples about its moment 640 t. The last row of the window begins
# WINDOW - BEFORE - 1 rows later and its spectrum reaches FFT / 2 beyond its middle; the first row's level
# looks LEVEL_ROWS - 1 rows further back than the row, and pre-emphasis one sample more.
LOOK_AHEAD = (WINDOW - BEFORE - 1) * ROW + ROW // 2 + FFT // 2
LOOK_BACK = (BEFORE + LEVEL_ROWS - 1) * ROW - ROW // 2 + FFT // 2 + 1
LOOK_AHEAD_SECONDS = LOOK_AHEAD / SAMPLE_RATE  # 0.166
LOOK_BACK_SECONDS = LOOK_BACK / SAMPLE_RATE  # 10.15

_BLOCK = 3000  # rows at once: a minute, so that an hour needs no more memory than that

HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
FILTERS = Path(__file__).with_name("mel_filters.npy")
"""The mel filters, [BANDS, FFT / 2 + 1] float32; scripts/mel_filters.py made them by librosa."""


@functools.lru_cache(maxsize=1)
def mel_filters() -> np.ndarray:
    """[BANDS, FFT / 2 + 1] float32, so scaled that a sine of full scale has the power 1/2 in its band.

    They are data, because librosa's first filter bank costs a process a second and more.
    """
    return np.load(FILTERS, allow_pickle=False)


@functools.lru_cache(maxsize=1)
def _filters_in_double() -> np.ndarray:
    return mel_filters().astype(np.float64)


def band_powers(samples: np.ndarray) -> np.ndarray:
    """Power in the mel bands after pre-emphasis, float32 [R, 29] (steps 1 and 2).

    Args:
        samples: [N] float32, mono at 16 kHz.
    """
    return _powers_of_rows(samples, 0, 0, count_rows(len(samples)))


def _powers_of_rows(samples: np.ndarray, offset: int, begun: int, stop: int) -> np.ndarray:
    """`band_powers` of the rows [begun, stop) alone; `samples` begin `offset` samples into the sound."""
    powers = np.empty((stop - begun, BANDS), np.float32)
    with Bar("audio features", stop - begun, "row") as bar:
        for first in range(begun, stop, _BLOCK):
            count = min(_BLOCK, stop - first)
            begin = first * ROW - BEFORE_ROW - offset  # of the block's first spectrum, in `samples`
            end = begin + (count - 1) * ROW + FFT
            piece = np.zeros(end - begin + 1, np.float32)
            low, high = max(0, begin - 1), min(len(samples), end)
            if high > low:
                piece[low - begin + 1 : high - begin + 1] = samples[low:high]
            emphasised = piece[1:] - np.float32(PRE_EMPHASIS) * piece[:-1]
            cuts = np.lib.stride_tricks.sliding_window_view(emphasised, FFT)[::ROW]
            # In double precision, so that a row's rounding doesn't depend on what it is computed with.
            spectra = np.square(np.abs(np.fft.rfft(cuts * HANN)))
            powers[first - begun : first - begun + count] = spectra @ _filters_in_double().T
            bar.step(count)
    return powers


def _exceeded(block: np.ndarray, count: np.ndarray) -> np.ndarray:
    """[n] what LEVEL_SHARE of the `count` [n] largest numbers exceed in each sorted row of `block` [n, k]."""
    place = block.shape[1] - 1 - (LEVEL_SHARE * count).astype(np.int64)
    return block[np.arange(len(block)), place]


def voice_level(row_db: np.ndarray, earlier: np.ndarray | None = None) -> np.ndarray:
    """The level of the voice at each row in dB, float32 [R] (step 3).

    Args:
        row_db: [R] the rows' own levels in dB.
        earlier: those of the rows just before, [any number]; the sound begins with `row_db` where None.
    """
    rows = len(row_db)
    known = row_db if earlier is None else np.concatenate([earlier[-(LEVEL_ROWS - 1) :], row_db])
    before = np.full(rows + LEVEL_ROWS - 1 - len(known), -np.inf, np.float32)
    padded = np.concatenate([before, np.where(known > ACTIVE_DB, known, -np.inf).astype(np.float32)])
    recent = np.lib.stride_tricks.sliding_window_view(padded, LEVEL_ROWS)
    levels = np.empty(rows, np.float32)
    for first in range(0, rows, _BLOCK):
        block = np.sort(recent[first : first + _BLOCK], axis=1)
        above = np.isfinite(block).sum(1)
        active = (block > _exceeded(block, above)[:, None] - np.float32(GATE_DB)).sum(1)
        found = np.where(above > 0, _exceeded(block, active), TYPICAL_DB)
        trust = active**2 / (active**2 + TYPICAL_ROWS**2)
        levels[first : first + _BLOCK] = trust * found + (1 - trust) * TYPICAL_DB
    return levels


def _row_levels(powers: np.ndarray) -> np.ndarray:
    return np.asarray(10 * np.log10(powers.sum(1, dtype=np.float64) + 1e-20), np.float32)


def over_voice(powers: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """[R, any] float32: powers over the voice's levels [R] in dB, on the features' scale (step 4)."""
    gain = 10 ** ((RANGE_DB - levels) / 10)
    return np.float32(SCALE) * np.log10(1 + powers * gain[:, None]).astype(np.float32)


def mel_rows(samples: np.ndarray) -> np.ndarray:
    """Feature rows at 50 Hz, float32 [R, 29], finite for every finite sound and 0 for silence.

    Args:
        samples: [N] float32, mono at 16 kHz.
    """
    powers = band_powers(samples)
    return over_voice(powers, voice_level(_row_levels(powers)))


class PowerStream:
    """Band powers of a sound that is still arriving, and the level of its voice.

    Row r is known from 320 r + 416 samples on. What is kept is the last 32 ms of sound and the levels of
    the last ten seconds' rows, so that neither memory nor the work for a row grows with the sound.
    """

    def __init__(self) -> None:
        mel_filters()  # read now, and not when the first samples are here
        self._samples = np.zeros(0, np.float32)
        self._offset = 0  # of the first kept sample in the sound
        self._rows = 0
        self._levels = np.zeros(0, np.float32)

    @property
    def samples(self) -> int:
        """How many samples have come."""
        return self._offset + len(self._samples)

    def push(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Powers [r, 29] of the rows that these samples [n] complete, and the voice's level [r] in dB."""
        self._samples = np.concatenate([self._samples, samples])
        return self._up_to((self.samples + BEFORE_ROW - FFT) // ROW + 1)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """As `push`, the rows that are left when the sound has ended; none without any sound."""
        return self._up_to(count_rows(self.samples) if self.samples else 0)

    def _up_to(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        if rows <= self._rows:
            return np.empty((0, BANDS), np.float32), np.empty(0, np.float32)
        powers = _powers_of_rows(self._samples, self._offset, self._rows, rows)
        own = _row_levels(powers)
        levels = voice_level(own, self._levels)
        self._levels = np.concatenate([self._levels, own])[-(LEVEL_ROWS - 1) :]
        self._rows = rows
        spent = min(len(self._samples), rows * ROW - BEFORE_ROW - 1 - self._offset)
        if spent > 0:  # a copy, so that a long chunk is not kept for its last samples
            self._samples, self._offset = self._samples[spent:].copy(), self._offset + spent
        return powers, levels


class MelStream:
    """`mel_rows` of a sound that is still arriving: the same rows, each given as soon as it can be known."""

    def __init__(self) -> None:
        self._powers = PowerStream()

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The rows [r, 29] that these samples [n] float32 complete."""
        return over_voice(*self._powers.push(samples))

    def finish(self) -> np.ndarray:
        """The rows that are left when the sound has ended; silence follows. None without any sound."""
        return over_voice(*self._powers.finish())


FRONTEND = Frontend(
    "29 log-mel bands, no weights, 0.17 s of delay",
    lambda samples, settings: mel_rows(samples),
    dim=BANDS,
    stream=lambda settings: MelStream(),
    look_ahead=lambda settings: LOOK_AHEAD,
    levels=slice(0, BANDS),
    spectral_bands=True,
)
