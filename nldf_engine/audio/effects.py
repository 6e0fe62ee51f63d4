"""What another voice, microphone, room or line would make of a sound, its times kept.

All take float32 [N], mono at 16 kHz, and give float32 [N] with sample n still at sample n, but for
`change_speed`. Filters have a linear phase whose delay is taken back.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.media.level import SILENT_DB, STRETCH, is_silent

# Samples: the stretch's grains, and how far each may be moved to go on like the one before. The moves bound
# how far times are off; 4 ms is half a period at 125 Hz, and deeper voices turn a little rough.
GRAIN, HOP, REACH = 400, 200, 64
FARTHER = 0.3  # correlation that a move by REACH must gain
# Spectra for formants, and the cepstrum's coefficients that make an envelope: up to 1.9 ms, below a
# child's pitch period of 2.5 ms.
FRAME, FRAME_HOP, COEFFICIENTS = 512, 128, 30
LARGEST_GAIN = 2.3  # of formants, natural logarithm: 20 dB
TAPS = 511
LONGEST_SHIFT = 2.0  # of speed, pitch and formants, and 1 / 2
# Speech without a level has this one, dB below full scale.
USUAL_DB = -26.0
TELEPHONE = (300.0, 3400.0)  # Hz
MU = 255

Noise = Literal["white", "pink", "babble", "chords"]
NOISES: tuple[Noise, ...] = ("white", "pink", "babble", "chords")
VOICES = 4  # of babble
CHORD = (0.4, 1.6)  # seconds
HARMONICS = 5


def _check_factor(name: str, factor: float) -> None:
    if not 1 / LONGEST_SHIFT <= factor <= LONGEST_SHIFT:
        raise ValueError(f"{name}: expected {1 / LONGEST_SHIFT} to {LONGEST_SHIFT}, got {factor}")


def change_speed(samples: np.ndarray, speed: float, quality: str = "HQ") -> np.ndarray:
    """Plays a sound faster, as a tape: pitch and resonances rise with it.

    Args:
        samples: [N] float32.
        speed: 0.5 to 2; second s of the result is second s * speed of the samples.
        quality: of soxr's resampling.

    Returns:
        float32 [max(1, round(N / speed))].

    Raises:
        ValueError: a speed out of range.
    """
    import soxr

    _check_factor("speed", speed)
    count = max(1, round(len(samples) / speed))
    made = soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE, quality=quality)[:count]
    return np.pad(made, (0, count - len(made)))


def _grains(samples: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """First samples of the grains, each near its centre and going on like the one before (WSOLA)."""
    lags = np.arange(-REACH, REACH + 1)
    nearer = FARTHER * np.abs(lags) / REACH
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.empty(len(centres), np.int64)
    start = int(centres[0])
    for number, centre in enumerate(centres):
        if number:
            wanted = samples[start + HOP : start + HOP + GRAIN]
            first = int(centre) - REACH
            near = samples[first : first + GRAIN + 2 * REACH]
            powers = energy[first + GRAIN : first + GRAIN + len(lags)] - energy[first : first + len(lags)]
            alike = np.correlate(near, wanted, "valid")
            alike = alike / np.sqrt(np.maximum(powers * float(wanted @ wanted), 1e-12))
            start = first + int(np.argmax(alike - nearer))
        starts[number] = start
    return starts


def _stretch(samples: np.ndarray, count: int) -> np.ndarray:
    """A sound [N] in `count` samples, its pitch kept (WSOLA)."""
    frames = count // HOP + 2
    before = GRAIN // 2 + REACH
    after = before + 2 * GRAIN
    padded = np.pad(samples, (before, after))
    # Frame k is centred at sample k * HOP of the result.
    centres = np.round(np.arange(frames) * HOP * (len(samples) / count)).astype(np.int64) + REACH
    centres = np.minimum(centres, len(padded) - GRAIN - HOP - REACH - 1)
    starts = _grains(padded, centres)
    window = np.hanning(GRAIN + 1)[:-1].astype(np.float32)
    pieces = padded[starts[:, None] + np.arange(GRAIN)] * window
    # A grain lasts two hops: even ones make one sound without gaps, odd ones another.
    made = np.zeros((frames + 1, HOP), np.float32)
    made[:-1] += pieces[:, :HOP]
    made[1:] += pieces[:, HOP:]
    return made.ravel()[HOP : HOP + count]


def shift_pitch(samples: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies pitch and resonances by a factor of 0.5 to 2; times are kept within some milliseconds.

    The sound is resampled and stretched back by overlapping grains that fit each other (WSOLA; Verhelst and
    Roelands 1993).

    Raises:
        ValueError: a factor out of range.
    """
    _check_factor("factor", factor)
    return _stretch(change_speed(samples, factor), len(samples))


def shift_formants(samples: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies the resonances by a factor of 0.5 to 2, as a shorter vocal tract does; pitch is kept.

    The envelope of each spectrum, of its first cepstral coefficients, is moved along the frequencies.

    Raises:
        ValueError: a factor out of range.
    """
    import torch

    _check_factor("factor", factor)
    bins = FRAME // 2 + 1
    cepstra = np.fft.irfft(np.eye(bins), axis=0)
    cepstra[COEFFICIENTS : FRAME - COEFFICIENTS + 1] = 0
    smooth = np.fft.rfft(cepstra, axis=0).real  # [bins, bins]: log spectrum -> log envelope
    places = np.minimum(np.arange(bins) / factor, bins - 1)
    moved = np.stack([np.interp(places, np.arange(bins), column) for column in smooth.T], axis=1)
    change = torch.from_numpy((moved - smooth).astype(np.float32))
    window = torch.hann_window(FRAME)
    sound = torch.nn.functional.pad(torch.from_numpy(samples), (FRAME, FRAME))
    spectra = torch.stft(sound, FRAME, FRAME_HOP, window=window, return_complex=True)
    gain = (change @ spectra.abs().add(1e-4).log()).clamp(-LARGEST_GAIN, LARGEST_GAIN).exp()
    made = torch.istft(spectra * gain, FRAME, FRAME_HOP, window=window, length=len(sound))
    return made[FRAME : FRAME + len(samples)].numpy()


def filter_sound(samples: np.ndarray, frequencies: np.ndarray, decibels: np.ndarray) -> np.ndarray:
    """Changes the level of the frequencies, linearly between the points given, without delay.

    Args:
        samples: [N] float32.
        frequencies: [P] Hz, rising, between 0 and 8000; the first and last levels go on to the ends.
        decibels: [P], change of the level there.
    """
    from scipy import signal

    nyquist = SAMPLE_RATE / 2
    places = np.linspace(0, nyquist, TAPS // 2 + 2)
    gains = 10 ** (np.interp(places, frequencies, decibels) / 20)
    taps = signal.firwin2(TAPS, places, gains, fs=SAMPLE_RATE)
    whole = signal.oaconvolve(samples, taps.astype(np.float32))
    return whole[TAPS // 2 : TAPS // 2 + len(samples)]


def telephone(samples: np.ndarray, companded: bool) -> np.ndarray:
    """A sound from a telephone line, of 300 to 3400 Hz, without delay.

    Args:
        samples: [N] float32, in [-1, 1].
        companded: whether it also goes through 8 bits at 8 kHz with a logarithmic scale (the mu-law of
            G.711, by its formula).
    """
    import soxr

    low, high = TELEPHONE
    made = filter_sound(samples, np.array([0.7 * low, low, high, 1.15 * high]), np.array([-50, 0, 0, -50]))
    if not companded:
        return made
    narrow = np.clip(soxr.resample(made, SAMPLE_RATE, SAMPLE_RATE // 2), -1, 1)
    codes = np.round(np.sign(narrow) * np.log1p(MU * np.abs(narrow)) / np.log1p(MU) * 127) / 127
    narrow = np.sign(codes) * np.expm1(np.abs(codes) * np.log1p(MU)) / MU
    made = soxr.resample(narrow.astype(np.float32), SAMPLE_RATE // 2, SAMPLE_RATE)[: len(samples)]
    return np.pad(made, (0, len(samples) - len(made)))


def add_room(
    samples: np.ndarray, seconds: float, direct_db: float, random: np.random.Generator
) -> np.ndarray:
    """Adds reverberation: noise that decays exponentially, after the direct sound, which keeps its time.

    Args:
        samples: [N] float32.
        seconds: in which the reverberation falls by 60 dB, positive.
        direct_db: level of the direct sound over that of all reverberation.
        random: draws the room.

    Raises:
        ValueError: no positive time.
    """
    from scipy import signal

    if not seconds > 0:
        raise ValueError(f"seconds: expected a positive time, got {seconds}")
    time = np.arange(max(2, round(seconds * SAMPLE_RATE))) / SAMPLE_RATE
    response = random.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    response[0] = 0
    response *= 10 ** (-direct_db / 20) / np.linalg.norm(response)
    response[0] = 1
    return signal.oaconvolve(samples, response.astype(np.float32))[: len(samples)]


def speech_power(samples: np.ndarray) -> float:
    """Mean power of the tenths of a second that are not silent; that of USUAL_DB where all are."""
    if is_silent(samples):
        return 10 ** (USUAL_DB / 10)
    whole = max(1, len(samples) // STRETCH) * STRETCH
    powers = np.var(np.resize(samples, whole).reshape(-1, STRETCH), axis=1, dtype=np.float64)
    loud = powers[powers > 10 ** (SILENT_DB / 10)]
    return float(loud.mean()) if len(loud) else float(np.var(samples, dtype=np.float64))


def _pink(count: int, random: np.random.Generator) -> np.ndarray:
    from scipy import fft

    length = fft.next_fast_len(count, real=True)
    spectrum = fft.rfft(random.standard_normal(length, np.float32))
    lowest = 20 * length / SAMPLE_RATE  # flat below 20 Hz
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), lowest)).astype(np.float32)
    spectrum[0] = 0
    return fft.irfft(spectrum, length)[:count]


def _babble(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """VOICES voices at once: the sound itself, other and later, every second one backwards."""
    made = np.zeros_like(samples)
    for number in range(VOICES):
        speed = random.uniform(0.75, 1.33)
        voice = np.resize(change_speed(samples, speed, "LQ"), len(samples))
        voice = np.roll(voice, random.integers(len(samples)))
        made += voice[::-1] if number % 2 else voice
    return made


def _chords(count: int, random: np.random.Generator) -> np.ndarray:
    """Struck chords of three notes with harmonics, one after the other."""
    pieces, made = [], 0
    while made < count:
        time = np.arange(round(random.uniform(*CHORD) * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
        root = 110 * 2 ** (random.integers(24) / 12)
        chord = np.zeros_like(time)
        for note in (0, random.choice([3, 4]), 7):
            turn = np.float32(2 * np.pi * root * 2 ** (note / 12)) * time
            for harmonic in range(1, HARMONICS + 1):
                chord += np.sin(harmonic * turn) / harmonic
        pieces.append(chord * np.exp(-2 * time))
        made += len(time)
    return np.concatenate(pieces)[:count]


def add_noise(samples: np.ndarray, kind: Noise, snr_db: float, random: np.random.Generator) -> np.ndarray:
    """Adds noise below the speech's level, or below a usual level where the sound is silent.

    Args:
        samples: [N] float32.
        kind: "white"; "pink", as much in every octave; "babble", voices made of the sound's own (pink where
            it is silent); "chords", like music.
        snr_db: level of the speech, pauses left out, over that of the noise.
        random: draws the noise.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in NOISES:
        raise ValueError(f"kind: expected one of {', '.join(NOISES)}, got {kind!r}")
    if kind == "babble" and not is_silent(samples):
        noise = _babble(samples, random)
    elif kind == "chords":
        noise = _chords(len(samples), random)
    elif kind == "white":
        noise = random.standard_normal(len(samples), np.float32)
    else:
        noise = _pink(len(samples), random)
    power = max(float(np.mean(np.square(noise, dtype=np.float64))), 1e-20)
    gain = np.sqrt(speech_power(samples) / power * 10 ** (-snr_db / 10))
    return samples + np.float32(gain) * noise
