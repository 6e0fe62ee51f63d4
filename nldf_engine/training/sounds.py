"""Copies of a sound as of other voices, microphones, rooms and lines, with the times of the original.

A network that learns from a minute of one voice hears that voice, microphone and room alone. Bands of a
spectrum can be varied as they are (`training.voices`); the rows of a learned front-end can't, so the sound is
varied before it. What the mouth did belongs to the original's times, so a copy keeps them, but for a speed
that it states; `back_in_time` takes that out of its feature rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nldf_engine.audio import effects
from nldf_engine.audio.windows import count_rows
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.progress import Bar
from nldf_engine.media.codecs import CODECS, encode_and_decode

SHORTEST = SAMPLE_RATE // 10  # samples
LARGEST_SAMPLE = 64.0
# Shares of the copies that get each variation; a copy has one speed or one pitch, and one line.
SPEED_SHARE, PITCH_SHARE, FORMANTS_SHARE = 0.5, 0.3, 0.5
ROOM_SHARE, NOISE_SHARE, COLOUR_SHARE = 0.5, 0.7, 0.5
LINES = {"": 0.5, "telephone": 0.12, "mu-law": 0.12, **dict.fromkeys(CODECS, 0.26 / len(CODECS))}
# Ranges; of the first three the logarithm is uniform.
SPEED, PITCH, FORMANTS = (0.85, 1.18), (0.85, 1.18), (0.88, 1.14)
# Seconds for 60 dB; direct sound over reverberation: with less than this, loudness comes late by over 5 ms.
DECAY, DIRECT_DB = (0.1, 0.6), (3.0, 15.0)
SNR_DB, LEVEL_DB = (5.0, 30.0), (-20.0, 6.0)
BIT_RATE = (16_000, 48_000)
# Of a microphone: a level at each of these frequencies, and a tilt in dB an octave.
COLOUR_HZ = np.array([125.0, 250, 500, 1000, 2000, 4000, 8000])
COLOUR_DB, TILT_DB = 3.0, 1.5


@dataclass(frozen=True)
class SoundCopy:
    """A variation of a sound.

    Args:
        samples: [M] float32, mono at 16 kHz, in [-1, 1]; M = round(N / speed) of the original's N.
        speed: second s of the copy is second s * speed of the original.
        recipe: what was done to it, in words.
    """

    samples: np.ndarray
    speed: float
    recipe: str


def _factor(span: tuple[float, float], random: np.random.Generator) -> float:
    return float(np.exp(random.uniform(*np.log(span))))


def _other_voice(samples: np.ndarray, random: np.random.Generator) -> SoundCopy:
    speed, recipe, kind = 1.0, [], random.random()
    if kind < SPEED_SHARE:
        speed = _factor(SPEED, random)
        samples = effects.change_speed(samples, speed)
        recipe.append(f"speed {speed:.2f}")
    elif kind < SPEED_SHARE + PITCH_SHARE:
        pitch = _factor(PITCH, random)
        samples = effects.shift_pitch(samples, pitch)
        recipe.append(f"pitch {pitch:.2f}")
    if random.random() < FORMANTS_SHARE:
        formants = _factor(FORMANTS, random)
        samples = effects.shift_formants(samples, formants)
        recipe.append(f"formants {formants:.2f}")
    return SoundCopy(samples, speed, ", ".join(recipe))


def _other_place(samples: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """In another room with other noise."""
    recipe = []
    if random.random() < ROOM_SHARE:
        seconds = random.uniform(*DECAY)
        samples = effects.add_room(samples, seconds, random.uniform(*DIRECT_DB), random)
        recipe.append(f"room {seconds:.2f} s")
    if random.random() < NOISE_SHARE:
        kind, snr = effects.NOISES[random.integers(len(effects.NOISES))], random.uniform(*SNR_DB)
        samples = effects.add_noise(samples, kind, snr, random)
        recipe.append(f"{kind} {snr:.0f} dB")
    return samples, recipe


def _other_line(samples: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Through another microphone, at another level, over a line or a codec."""
    recipe = []
    if random.random() < COLOUR_SHARE:
        tilt = random.normal(0, TILT_DB) * np.log2(COLOUR_HZ / 1000)
        samples = effects.filter_sound(samples, COLOUR_HZ, tilt + random.normal(0, COLOUR_DB, len(COLOUR_HZ)))
        recipe.append("colour")
    level = random.uniform(*LEVEL_DB)
    samples = np.clip(samples * np.float32(10 ** (level / 20)), -1, 1)
    recipe.append(f"{level:+.0f} dB")
    line = random.choice(list(LINES), p=list(LINES.values()))
    if line in CODECS:
        rate = int(random.integers(*BIT_RATE))
        samples = encode_and_decode(samples, line, rate)
        recipe.append(f"{line} {rate // 1000} kbit/s")
    elif line:
        samples = effects.telephone(samples, companded=line == "mu-law")
        recipe.append(str(line))
    return np.clip(samples, -1, 1), recipe


def vary_sound(samples: np.ndarray, count: int, random: np.random.Generator) -> list[SoundCopy]:
    """Copies of a sound as of other voices, rooms, microphones and lines; the same for a generator's state.

    A copy's times are those of the original within 5 ms, but for its stated speed; delays of filters and
    codecs are taken out, and a room's direct sound comes first. A silent sound gets noise as below speech of
    a usual level.

    Args:
        samples: [N] float32, mono at 16 kHz, N of at least SHORTEST.
        count: how many copies.
        random: draws what is done; it is advanced.

    Raises:
        TypeError: samples of another dtype.
        ValueError: another shape, too few samples, samples that are not finite or far beyond full scale, or a
            negative count.
        MissingBackend: FFmpeg was built without an encoder that was drawn.

    Example:
        >>> tone = 0.1 * np.sin(np.arange(16000, dtype=np.float32))
        >>> len(vary_sound(tone, 3, np.random.default_rng(0)))
        3
    """
    if samples.dtype != np.float32:
        raise TypeError(f"samples: expected float32, got {samples.dtype}")
    if samples.ndim != 1 or len(samples) < SHORTEST:
        raise ValueError(
            f"samples: expected [N] with N of at least {SHORTEST}, got shape {list(samples.shape)}"
        )
    if not np.abs(samples).max() <= LARGEST_SAMPLE:  # NaN included
        raise ValueError("samples: expected finite numbers in about [-1, 1]")
    if count < 0:
        raise ValueError(f"count: expected 0 or more, got {count}")
    copies = []
    with Bar("vary the sound", count, "version") as bar:
        for _ in range(count):
            copy = _other_voice(samples, random)
            made, place = _other_place(copy.samples, random)
            made, line = _other_line(made, random)
            recipe = ", ".join([*([copy.recipe] if copy.recipe else []), *place, *line])
            copies.append(SoundCopy(np.ascontiguousarray(made, np.float32), copy.speed, recipe))
            bar.step()
    return copies


def back_in_time(rows: np.ndarray, speed: float, count: int) -> np.ndarray:
    """Feature rows of a copy at the original's times, float32 [count, D], linear between the copy's rows.

    Row r describes the 20 ms about second (r + 0.5) / 50. The first and last row go on to the ends.

    Args:
        rows: [R, D] float32 at 50 Hz, of the copy.
        speed: of the copy.
        count: rows of the original.

    Raises:
        ValueError: another shape, no row, no positive speed or a negative count.
    """
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"rows: expected [R, D] with R of at least 1, got shape {list(rows.shape)}")
    if not speed > 0 or count < 0:
        raise ValueError(f"expected a positive speed and a count of 0 or more, got {speed} and {count}")
    places = np.clip((np.arange(count) + 0.5) / speed - 0.5, 0, len(rows) - 1)
    low = np.minimum(places.astype(np.int64), max(0, len(rows) - 2))
    share = (places - low).astype(np.float32)[:, None]
    return rows[low] * (1 - share) + rows[np.minimum(low + 1, len(rows) - 1)] * share


def copied_rows(
    samples: np.ndarray,
    count: int,
    random: np.random.Generator,
    rows: Callable[[np.ndarray], np.ndarray],
) -> list[np.ndarray]:
    """Feature rows of copies of a sound at the original's times: `count` times float32 [R, D].

    Args:
        samples, count, random: see `vary_sound`.
        rows: a front-end's, of samples.
    """
    whole = count_rows(len(samples))
    copies = vary_sound(samples, count, random)
    return [back_in_time(rows(copy.samples), copy.speed, whole) for copy in copies]
