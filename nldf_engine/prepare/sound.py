"""How good a recording's sound is: noise, clipping, voice, reverberation, music under the speech.

An avatar learns its lips from this sound and meets clean speech later: what is not speech misleads it. All
is measured blindly, from the recording alone, on a minute of it at most. Thresholds were set on synthetic
speech with known noise, rooms and chords; `tests/prepare/test_sound.py` says what they find there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nldf_engine.audio import is_silent
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.datasets.problems import Problem

STRETCHES, STRETCH = 6, 10 * SAMPLE_RATE  # how many samples of a longer recording are measured
VOICED_SAMPLES = 20 * SAMPLE_RATE  # of these, where the pitch is looked for: it costs the most
FRAME, HOP = 512, 128  # samples of a value of the loudness: 32 ms every 8 ms
LOWEST_DB = -100.0
DIGITAL_SILENCE_DB = -90.0
SPEECH, PAUSES, QUIETEST = 90, 10, 2  # percentiles of the loudness
STEADY_DB = 3.0  # between the quietest and the pauses: below it they are filled by a steady noise
FALLS_FROM = 8 * SAMPLE_RATE  # shorter recordings hold too few abrupt ends of speech to measure a decay by
CLEAR_DB = 30.0  # of speech above a steady noise, beyond which it hides no decay
FLAT, FLAT_RUN = 0.985, 3  # so many samples in a row, that near to the highest one, are a flat top
LOWEST_VOICE, HIGHEST_VOICE = 65.0, 400.0  # Hz
FALL, FASTEST = 19, 2  # values (152 ms) that the loudness falls over; percentile of its falls
SPECTRUM, SPECTRUM_HOP = 2048, 512
WINDOW, LEAST = 46, 10  # spectra (1.5 s) in which a tone stays; percentile that is its level there
AROUND, TONE = 31, 8.0  # frequencies about a tone; times by which its power is above theirs
HUM = 130.0  # Hz, below which mains hum and rumble are

NOISY_DB = 15.0  # of speech above the pauses
FLATTENED = 0.001  # share of the samples
LITTLE_VOICE = 0.2  # share of the loud frames
ECHOING = 0.55  # seconds; 15 clips of real speakers, 6 to 60 s long, measure 0.26 to 0.39
MUSIC, MUSIC_DB = 0.9, -40.0  # share of the lasting sound; level against speech


def measure_sound(samples: np.ndarray) -> dict[str, Any] | None:
    """What a recording holds besides speech; None if it is silent or shorter than 2 s.

    Args:
        samples: float [N], mono at 16 kHz.

    Returns:
        noise_floor_db: loudness of the pauses, full scale 0.
        speech_above_floor_db: how much louder speech is.
        steady_floor: whether the pauses are filled by a steady noise, and not by what dies away.
        flattened: share of the samples on flat tops, clipped at whatever level.
        voiced: share of the loud frames that have a pitch.
        reverberation_seconds: in which the room's sound falls by 60 dB, or a little less than that; None
            where steady noise hides it, or in less than 8 s.
        music: share of steady tones in the sound that lasts; music_db: their level against speech.

    Raises:
        ImportError: librosa is not installed.
    """
    import librosa

    excerpt = _excerpt(samples.astype(np.float32))
    if len(excerpt) < 2 * SAMPLE_RATE or is_silent(excerpt):
        return None
    loudness = _decibels(librosa.feature.rms(y=excerpt, frame_length=FRAME, hop_length=HOP)[0] ** 2)
    sounding = loudness[loudness > DIGITAL_SILENCE_DB]
    speech, floor, quietest = (float(np.percentile(sounding, p)) for p in (SPEECH, PAUSES, QUIETEST))
    steady = floor - quietest < STEADY_DB
    hidden = (steady and speech - floor < CLEAR_DB) or len(excerpt) < FALLS_FROM
    music, music_db = steady_tones(excerpt)
    return {
        "noise_floor_db": round(floor, 1),
        "speech_above_floor_db": round(speech - floor, 1),
        "steady_floor": steady,
        "flattened": round(flattened(excerpt), 6),
        "voiced": round(voiced_share(excerpt[:VOICED_SAMPLES]), 3),
        "reverberation_seconds": None if hidden else _decay(loudness),
        "music": round(music, 3),
        "music_db": round(music_db, 1),
    }


def judge_sound(samples: np.ndarray) -> tuple[dict[str, Any], list[Problem]]:
    """What `measure_sound` gives and the problems it shows; a note that nothing was measured without librosa.

    Args:
        samples: float [N], mono at 16 kHz.
    """
    try:
        measured = measure_sound(samples)
    except ImportError:
        what = "noise, clipping, reverberation and music were not measured: librosa is not installed"
        return {}, [Problem("sound", what, "pip install 'nldf_engine[prepare]'", "note")]
    return ({}, []) if measured is None else (measured, quality_problems(measured))


def _excerpt(samples: np.ndarray) -> np.ndarray:
    """The samples, or evenly spread stretches of a longer recording."""
    if len(samples) <= STRETCHES * STRETCH:
        return samples
    begins = np.linspace(0, len(samples) - STRETCH, STRETCHES).astype(int)
    return np.concatenate([samples[begin : begin + STRETCH] for begin in begins])


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + 10 ** (LOWEST_DB / 10))


def flattened(samples: np.ndarray) -> float:
    """Share of the samples [N] in flat tops, of one sign and close to the highest sample."""
    highest = float(np.abs(samples).max())
    count = 0
    for top in (samples > FLAT * highest, samples < -FLAT * highest):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], top.astype(np.int8), [0]])))
        lengths = edges[1::2] - edges[::2]
        count += int(lengths[lengths >= FLAT_RUN].sum())
    return count / len(samples)


def voiced_share(samples: np.ndarray) -> float:
    """Share of the frames above the middle of the loudness [N samples] that have a pitch (pYIN)."""
    import librosa

    _, voiced, _ = librosa.pyin(
        samples, fmin=LOWEST_VOICE, fmax=HIGHEST_VOICE, sr=SAMPLE_RATE, frame_length=1024, hop_length=512
    )
    loudness = _decibels(librosa.feature.rms(y=samples, frame_length=1024, hop_length=512)[0] ** 2)
    loud = loudness > np.percentile(loudness, [PAUSES, SPEECH]).mean()
    return float(voiced[loud].mean()) if loud.any() else 0.0


def _decay(loudness: np.ndarray) -> float:
    """Seconds for 60 dB, from the steepest falls of the loudness [F]: no sound falls faster than its room."""
    fall = -float(np.percentile(loudness[FALL:] - loudness[:-FALL], FASTEST))
    return round(60 * FALL * HOP / SAMPLE_RATE / max(fall, 1.0), 2)


def steady_tones(samples: np.ndarray) -> tuple[float, float]:
    """Share and level of tones that stay for a second and more, as chords do and speech does not.

    The least that a frequency holds for 1.5 s is noise, where it is like its neighbours', and a tone, where
    it stands out of them. Short notes and drums are not found.

    Returns:
        The share of tones in the power that lasts, 0..1; their level against speech, dB, at least -100.
    """
    import librosa
    from scipy.ndimage import median_filter

    power = np.abs(librosa.stft(samples, n_fft=SPECTRUM, hop_length=SPECTRUM_HOP)) ** 2
    power = power[round(HUM / SAMPLE_RATE * SPECTRUM) :]
    speech = float(np.percentile(power.sum(0), SPEECH))
    found = []
    for begin in range(0, power.shape[1] - WINDOW + 1, WINDOW // 2):
        lasting = np.percentile(power[:, begin : begin + WINDOW], LEAST, axis=1)
        tones = lasting[lasting > TONE * median_filter(lasting, AROUND)].sum()
        found.append((tones / max(lasting.sum(), 1e-20), tones / max(speech, 1e-20)))
    if not found:
        return 0.0, LOWEST_DB
    share, level = np.median(np.array(found), axis=0)
    return float(share), float(_decibels(level))


def quality_problems(measured: dict[str, Any]) -> list[Problem]:
    """What of `measure_sound` will show in an avatar's lips."""
    problems = []

    def warn(what: str, remedy: str) -> None:
        problems.append(Problem("sound", what, remedy, "warning"))

    above = measured["speech_above_floor_db"]
    if measured["music"] > MUSIC and measured["music_db"] > MUSIC_DB:
        what = f"music or a steady tone is under the speech, {-measured['music_db']:.0f} dB below it"
        warn(what, "record without music, or separate the voice from it first")
    elif measured["steady_floor"] and above < NOISY_DB:
        what = f"it is noisy: speech is only {above:.0f} dB louder than the pauses"
        warn(what, "record in a quiet room with the microphone close, or clean the sound first")
    if measured["flattened"] > FLATTENED:
        what = f"it is clipped: {measured['flattened']:.1%} of the samples are on flat tops"
        warn(what, "record again at a lower level")
    if measured["voiced"] < LITTLE_VOICE:
        what = f"only {measured['voiced']:.0%} of what is loud has the pitch of a voice"
        warn(what, "check that the recording holds the speaker's own speech, and little else")
    seconds = measured["reverberation_seconds"]
    if seconds is not None and seconds > ECHOING:
        what = f"the room echoes: its sound takes {seconds:.1f} s to fall by 60 dB"
        warn(what, "record in a furnished room with the microphone close")
    return problems
