"""The voice: phonemes -> a timeline -> sound by source and filter.

The voice source is a train of glottal pulses with jitter and an intonation contour; each 4 ms of it, and
of noise, passes through the resonances of the moment (in the frequency domain, overlapped and added).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.synthetic.voice.mouth import mouth_curves
from nldf_engine.synthetic.voice.phonemes import PHONEMES, SILENCE, VOWELS
from nldf_engine.synthetic.voice.text import Word, babble, words_of_text

RATE = SAMPLE_RATE
HOP = 64  # samples between filter frames: 4 ms
WINDOW = 256
SPECTRUM = 1024
PITCH = 168.0  # Hz
TRACT = 1.06  # resonances against an adult man's
SLOWNESS = 1.12
QUIET_ENDS = 0.25  # seconds of silence before and after
HIGHER = (3550.0, 4700.0)
WIDTHS = (75.0, 95.0, 140.0, 220.0, 300.0)
LONGEST = 3600.0
LOUDNESS = 0.09  # root mean square of the spoken part
NOISE_FLOOR = 3e-4


@dataclass(frozen=True)
class Speech:
    """Synthesised speech.

    Args:
        samples: float32 [N] in (-1, 1), mono.
        rate: samples a second, 16000.
        phonemes: (name, start, end) in seconds, without gaps, silence as "SIL".
        stresses: seconds at which stressed vowels are at their middle.
    """

    samples: np.ndarray
    rate: int
    phonemes: tuple[tuple[str, float, float], ...]
    stresses: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / self.rate

    def visemes(self, fps: float = FPS, frames: int | None = None) -> np.ndarray:
        """What the mouth does at k / fps: float32 [T, 4]: jaw_open, lip_width, lip_round, lip_close in 0..1.

        Args:
            fps: frames a second, positive.
            frames: T; by default round(seconds * fps), at least 1.

        Raises:
            ValueError: fps is not positive, or frames is below 1.
        """
        if not fps > 0:
            raise ValueError(f"Speech.visemes: fps must be positive, got {fps}")
        frames = max(1, round(self.seconds * fps)) if frames is None else frames
        if frames < 1:
            raise ValueError(f"Speech.visemes: frames must be at least 1, got {frames}")
        return mouth_curves(self.phonemes, np.arange(frames) / fps)


@dataclass
class _Segment:
    name: str
    seconds: float
    stressed: bool = False
    phrase: int = 0
    rises: bool = False


def _segments(words: list[Word], random: np.random.Generator) -> list[_Segment]:
    made = [_Segment(SILENCE, QUIET_ENDS)]
    phrase = 0
    for k, word in enumerate(words):
        final = word.stop > 0 or k == len(words) - 1
        last_vowel = max((i for i, n in enumerate(word.phonemes) if n in VOWELS), default=-1)
        for i, name in enumerate(word.phonemes):
            seconds = PHONEMES[name].seconds * SLOWNESS * float(random.uniform(0.88, 1.14))
            stressed = i == word.stress
            if name in VOWELS:
                seconds *= 1.28 if stressed else 0.95
            if final and i >= last_vowel:
                seconds *= 1.35
            made.append(_Segment(name, seconds, stressed, phrase, word.rises))
        if word.stop:
            made.append(_Segment(SILENCE, word.stop * float(random.uniform(0.9, 1.1)), phrase=phrase))
            phrase += 1
    if made[-1].name == SILENCE:
        made[-1].seconds = max(made[-1].seconds, QUIET_ENDS)
    else:
        made.append(_Segment(SILENCE, QUIET_ENDS, phrase=phrase))
    return made


def _fitted(segments: list[_Segment], seconds: float) -> list[_Segment]:
    """The segments cut to `seconds`, with silence after the last that fits."""
    kept, total = [], 0.0
    for segment in segments:
        if total + segment.seconds > seconds - (0 if segment.name == SILENCE else QUIET_ENDS):
            break
        kept.append(segment)
        total += segment.seconds
    rest = seconds - total
    if kept and kept[-1].name == SILENCE:
        kept[-1].seconds += rest
    else:
        kept.append(_Segment(SILENCE, rest, phrase=kept[-1].phrase if kept else 0))
    return kept


def synthesise_speech(text: str | None = None, seconds: float | None = None, seed: int = 0) -> Speech:
    """Speaks English text, or babble where `text` is None.

    Args:
        text: what to say; said again until `seconds` are filled, and cut after the last sound that fits.
        seconds: length of the sound, 0.2 to 3600; by default as long as the text takes (babble: 10 s).
        seed: chooses the babble and the small irregularities of the voice.

    Raises:
        TypeError: text is no string.
        ValueError: text holds nothing to say, or seconds is out of its range.

    Example:
        >>> speech = synthesise_speech("hello world", seconds=2.0)
        >>> len(speech.samples), speech.phonemes[1][0]
        (32000, 'HH')
    """
    if seconds is not None and not 0.2 <= seconds <= LONGEST:
        raise ValueError(f"synthesise_speech: seconds must be in 0.2..{LONGEST:g}, got {seconds}")
    random = np.random.default_rng([int(seed) & 0xFFFFFFFF, 11])
    if text is None:
        seconds = 10.0 if seconds is None else seconds
        segments = _segments(babble(int(seconds * 4) + 4, random), random)
    else:
        words = words_of_text(text)
        segments = _segments(words, random)
        while seconds is not None and sum(s.seconds for s in segments) < seconds:
            segments += _segments(words, random)
    if seconds is None:
        seconds = sum(s.seconds for s in segments)
    count = round(seconds * RATE)
    segments = _fitted(segments, count / RATE)
    ends = np.cumsum([s.seconds for s in segments])
    starts = np.concatenate([[0.0], ends[:-1]])
    merged: list[tuple[str, float, float]] = []
    for segment, start, end in zip(segments, starts, ends, strict=True):
        if merged and segment.name == SILENCE and merged[-1][0] == SILENCE:
            merged[-1] = (SILENCE, merged[-1][1], float(end))
        else:
            merged.append((segment.name, float(start), float(end)))
    stresses = tuple(float(a + b) / 2 for s, a, b in zip(segments, starts, ends, strict=True) if s.stressed)
    samples = _sound(segments, starts, ends, count, random)
    return Speech(samples, RATE, tuple(merged), stresses)


def _smooth(values: np.ndarray, frames: float) -> np.ndarray:
    """Gaussian smoothing along the first axis; `frames` is the deviation."""
    reach = int(np.ceil(3 * frames))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / frames))
    kernel /= kernel.sum()
    flat = values.reshape(len(values), -1)
    padded = np.pad(flat, ((reach, reach), (0, 0)), mode="edge")
    made = np.stack([np.convolve(padded[:, k], kernel, "valid") for k in range(flat.shape[1])], 1)
    return made.reshape(values.shape)


def _pitch(
    segments: list[_Segment],
    starts: np.ndarray,
    ends: np.ndarray,
    times: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """Fundamental frequency in Hz at `times`: falling over each phrase, raised on stresses."""
    contour = np.zeros(len(times))
    phrases = np.array([s.phrase for s in segments])
    for phrase in np.unique(phrases):
        spoken = [k for k in np.flatnonzero(phrases == phrase) if segments[k].name != SILENCE]
        if not spoken:
            continue
        begin, end = starts[spoken[0]], ends[spoken[-1]]
        low, high = np.searchsorted(times, (begin - 0.05, end + 0.05))
        at = np.clip((times[low:high] - begin) / max(end - begin, 0.1), 0, 1)
        contour[low:high] += 0.13 - 0.26 * at
        last = np.exp(-np.square((times[low:high] - end) / 0.16))
        contour[low:high] += (0.38 if segments[spoken[-1]].rises else -0.14) * last
    for k, segment in enumerate(segments):
        if segment.stressed:
            middle = (starts[k] + ends[k]) / 2
            low, high = np.searchsorted(times, (middle - 0.4, middle + 0.4))
            lift = float(random.uniform(0.10, 0.24))
            contour[low:high] += lift * np.exp(-np.square((times[low:high] - middle) / 0.11))
    wander = _smooth(random.standard_normal(len(times)), 22.0) * 0.16
    return PITCH * np.exp(_smooth(contour, 5.0) + wander)


def _tracks(
    segments: list[_Segment], starts: np.ndarray, ends: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    """Filter and level tracks at `times`."""
    which = np.clip(np.searchsorted(ends, times, side="right"), 0, len(segments) - 1)
    formants = np.array([PHONEMES[s.name].formants for s in segments])
    names = [s.name for s in segments]
    for k, name in enumerate(names):  # silence and h take the shape of what follows, or came before
        if name in (SILENCE, "HH"):
            near = k + 1 if k + 1 < len(names) and names[k + 1] != SILENCE else max(k - 1, 0)
            formants[k] = formants[near]
    voice = np.array([PHONEMES[n].voice for n in names])
    voice *= np.array([1.22 if s.stressed else 1.0 if s.name not in VOWELS else 0.86 for s in segments])
    noise = np.array([PHONEMES[n].noise for n in names], np.float64)
    kind = np.array([PHONEMES[n].kind for n in names])
    share = (times - starts[which]) / np.maximum(ends[which] - starts[which], 1e-6)
    level = voice[which]
    hiss = np.where(kind[which] == "fricative", noise[which, 2], 0.0)
    stop = kind[which] == "stop"
    long_burst = np.isin(np.array(names)[which], ("CH", "JH"))
    opens = np.where(long_burst, 0.45, 0.68)  # where the closure ends within the stop
    hiss = np.where(
        stop & (share > opens), noise[which, 2] * np.where(long_burst, 0.8, 1 - 2.2 * (share - opens)), hiss
    )
    level = np.where(stop & (share <= 0.12), level * 0.5, level)
    sharp = _smooth(np.maximum(hiss, 0), 1.2)
    return {
        "formants": _smooth(formants[which], 5.5) * TRACT,
        "voice": _smooth(level, 3.0),
        "noise": sharp,
        "centre": _smooth(np.where(noise[which, 2] > 0, noise[which, 0], 3000.0), 2.0),
        "width": _smooth(np.where(noise[which, 2] > 0, noise[which, 1], 2000.0), 2.0),
        "nasal": _smooth((kind[which] == "nasal").astype(np.float64), 3.0),
        "breath": _smooth(((np.array(names)[which] == "HH") * 0.22), 3.0),
    }


def _glottis(pitch: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """The derivative of the glottal flow, [count], of about unit level; made at twice the rate."""
    fine = np.interp(np.arange(2 * count) / 2, np.arange(len(pitch)) * HOP, pitch)
    phase = np.cumsum(fine / (2 * RATE))
    cycle = phase.astype(np.int64)
    at = phase - cycle
    periods = int(cycle[-1]) + 2 if count else 2
    strength = 1 + 0.05 * random.standard_normal(periods)  # shimmer
    at = np.clip(at * (1 + 0.012 * random.standard_normal(periods))[cycle], 0, 1)  # jitter
    opening, closing = 0.40, 0.18
    rise = np.sin(np.pi * at / opening) * (at < opening)
    fall = np.clip((at - opening) / closing, 0, 1)
    wave = 0.55 * rise - 1.7 * np.where(
        (at >= opening) & (at < opening + closing), np.sin(np.pi * fall**0.75 * 0.94), 0
    )
    wave = wave * strength[cycle]
    spectrum = np.fft.rfft(wave)
    return np.fft.irfft(spectrum[: count // 2 + 1], count) / 2 if count > 1 else wave[:count]


def _sound(
    segments: list[_Segment], starts: np.ndarray, ends: np.ndarray, count: int, random: np.random.Generator
) -> np.ndarray:
    frames = count // HOP + WINDOW // HOP + 2
    times = (np.arange(frames) * HOP - WINDOW / 2 + HOP) / RATE
    tracks = _tracks(segments, starts, ends, times)
    pitch = _pitch(segments, starts, ends, times, random)
    source = _glottis(pitch, count, random)
    hiss = random.standard_normal(count)
    pad = WINDOW
    source, hiss = np.pad(source, (pad, 2 * pad)), np.pad(hiss, (pad, 2 * pad))
    window = np.hanning(WINDOW + 1)[:-1]
    window = window / window.reshape(-1, HOP).sum(0).mean()
    frequency = np.fft.rfftfreq(SPECTRUM, 1 / RATE)
    z = np.exp(-2j * np.pi * frequency / RATE).astype(np.complex64)
    out = np.zeros((frames + SPECTRUM // HOP + 1) * HOP)
    block = 1024
    for begin in range(0, frames, block):
        part = slice(begin, min(begin + block, frames))
        at = np.arange(part.start, part.stop)[:, None] * HOP + np.arange(WINDOW) - WINDOW + HOP + pad
        at = np.clip(at, 0, len(source) - 1)
        shape = np.ones((part.stop - part.start, len(frequency)), np.complex64)
        resonances = [tracks["formants"][part, k] for k in range(3)] + [
            np.full(len(at), f * TRACT) for f in HIGHER
        ]
        for centre, width in zip(resonances, WIDTHS, strict=True):
            wide = width * (1 + 1.2 * tracks["nasal"][part])
            radius = np.exp(-np.pi * wide / RATE)
            b = 2 * radius * np.cos(2 * np.pi * centre / RATE)
            gain = 1 - b + radius**2
            shape *= gain[:, None] / (1 - b[:, None] * z + (radius**2)[:, None] * z * z)
        voiced = tracks["voice"][part, None] * source[at] + 0.02 * tracks["voice"][part, None] * hiss[at]
        breath = tracks["breath"][part, None] * hiss[at]
        spectrum = np.fft.rfft((voiced + 0.6 * breath) * window, SPECTRUM, axis=1) * shape
        band = np.exp(-np.square((frequency - tracks["centre"][part, None]) / tracks["width"][part, None]))
        rough = np.fft.rfft(tracks["noise"][part, None] * hiss[at] * window, SPECTRUM, axis=1)
        spectrum += 0.30 * rough * band
        sound = np.fft.irfft(spectrum, SPECTRUM, axis=1)
        for k in range(len(sound)):
            start = (part.start + k) * HOP
            out[start : start + SPECTRUM] += sound[k]
    # Frame k's window began at k * HOP - WINDOW + HOP.
    sound = out[WINDOW - HOP : WINDOW - HOP + count]
    loud = np.abs(sound) > 1e-4
    level = np.sqrt(np.mean(np.square(sound[loud]))) if loud.any() else 1.0
    sound = sound * (LOUDNESS / level) + NOISE_FLOOR * random.standard_normal(count)
    return np.tanh(sound * 1.05).astype(np.float32)
