"""Any sound to float32 mono at 16 kHz."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.media.headers import mp3_counts_frames, wav_bytes

LONGEST_SECONDS = 3600  # an hour of 48 kHz stereo is 1.4 GB, a few times over while it is read
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # samples a second; beyond, a header is taken for a damaged one
MOST_CHANNELS = 64
# Full scale is 1. Floats somewhat above it are clipping or headroom, far above it they are integers that
# nobody scaled, or damage.
LARGEST_SAMPLE = 64.0
# A stereo mix this far below its channels is two channels in opposite phase.
CANCELLED_DB = 20.0
QUALITY = "VHQ"  # of soxr's resampling
# What a file may be shorter than its header says: encoder delay, rounding to a block.
MISSING_SECONDS, MISSING_SHARE = 0.25, 0.02
# Their headers count samples or hold an index; others guess from the bit rate.
_EXACT_LENGTH = {"w64", "flac", "aiff", "caf", "mov", "matroska", "tta", "wv"}
_COPY_AGAIN = "copy, download or record the whole file again"


def _check_length(seconds: float, path: str | Path | None) -> None:
    if seconds <= LONGEST_SECONDS:
        return
    problem = (
        f"it lasts {seconds / 60:.0f} minutes, more than the {LONGEST_SECONDS // 60} that are read at once"
    )
    if path is None:
        raise ValueError(f"audio: {problem}; cut it into parts")
    raise FileProblem(path, problem, "cut it into parts")


def _check_wav(path: Path) -> None:
    sizes = wav_bytes(path)
    if sizes is None:
        return
    promised, present = sizes
    if not promised:
        raise FileProblem(path, "it holds no sound (0 samples)", _COPY_AGAIN)
    if present < promised * (1 - MISSING_SHARE):
        raise FileProblem(path, f"it is cut short: {present} of {promised} bytes of sound", _COPY_AGAIN)


def _expected_seconds(path: Path) -> float | None:
    """How long the header says that the sound is, from the first picture on; None where it only guesses.

    Raises:
        FileProblem: the header says that it is more than LONGEST_SECONDS.
    """
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.audio:
                return None
            stream = container.streams.audio[0]
            base = stream.time_base or Fraction(1)
            seconds = None if stream.duration is None else float(stream.duration * base)
            if seconds is None and container.duration is not None:
                seconds = container.duration / 1e6
            formats = set(container.format.name.split(","))
            exact = bool(_EXACT_LENGTH & formats) or ("mp3" in formats and mp3_counts_frames(path))
            start = float((stream.start_time or 0) * base)
            pictures = [s for s in container.streams.video if not int(s.disposition) & 0x400]
            lead = 0.0
            if pictures and pictures[0].start_time is not None:
                lead = max(
                    0.0, float(pictures[0].start_time * (pictures[0].time_base or Fraction(1))) - start
                )
    except av.error.FFmpegError:
        return None  # the reader says what is wrong with it
    if seconds is None:
        return None
    _check_length(seconds, path)
    return seconds - lead if exact else None


def _read(path: Path) -> tuple[np.ndarray, int]:
    from nldf_engine.media.containers import SOUND_AGAIN, check_file, read_audio_track

    check_file(path, SOUND_AGAIN)
    _check_wav(path)
    expected = _expected_seconds(path)
    samples, rate = read_audio_track(path)
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise FileProblem(
            path, f"its sample rate is {rate} Hz, beyond {LOWEST_RATE}..{HIGHEST_RATE}", _COPY_AGAIN
        )
    seconds = len(samples) / rate
    _check_length(seconds, path)
    if not len(samples):
        raise FileProblem(path, "it holds no sound (0 samples)", _COPY_AGAIN)
    if expected is not None and seconds < expected * (1 - MISSING_SHARE) - MISSING_SECONDS:
        raise FileProblem(
            path, f"it is cut short: {seconds:.1f} s of sound, and {expected:.1f} s expected", _COPY_AGAIN
        )
    return samples, rate


def _from_array(samples: Any, rate: Any) -> tuple[np.ndarray, int]:
    """(samples, rate) checked: float32 [N, channels], integers scaled to full scale 1."""
    if (
        isinstance(rate, bool)
        or not isinstance(rate, int | float | np.integer | np.floating)
        or rate % 1 != 0
    ):
        raise TypeError(
            f"audio: expected (samples, rate) with a whole rate in samples a second, got {rate!r}"
        )
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"audio: expected a rate of {LOWEST_RATE} to {HIGHEST_RATE} samples a second, got {rate}"
        )
    array = np.asarray(samples)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.size:
        raise ValueError(f"audio: expected samples [N] or [N, channels], got shape {list(np.shape(samples))}")
    if array.shape[1] > MOST_CHANNELS:
        raise ValueError(
            f"audio: expected samples [N] or [N, channels] with at most {MOST_CHANNELS} channels, "
            f"got shape {list(array.shape)}; transpose them if channels come first"
        )
    _check_length(len(array) / int(rate), None)
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / 128, int(rate)
    if array.dtype in (np.int16, np.int32):
        return array.astype(np.float32) / (np.iinfo(array.dtype).max + 1.0), int(rate)
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"audio: expected samples as float, int16, int32 or uint8, got {array.dtype}")
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, which is reported
        return array.astype(np.float32), int(rate)


def _problem(samples: np.ndarray) -> str:
    """What makes samples [N, channels] unusable, or nothing."""
    highest, lowest = float(samples.max()), float(samples.min())
    if not np.isfinite(highest) or not np.isfinite(lowest):
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        return f"{bad} of its {samples.size} samples are not finite (NaN or infinite)"
    largest = max(highest, -lowest)
    if largest > LARGEST_SAMPLE:
        return f"its samples reach {largest:.3g}, and full scale is 1"
    return ""


def _mix(samples: np.ndarray) -> np.ndarray:
    """[N] mono of [N, channels]: their mean, or the loudest where the channels cancel each other."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mixed = samples.mean(axis=1, dtype=np.float32)
    powers = np.array([np.var(samples[:, i], dtype=np.float64) for i in range(samples.shape[1])])
    # Channels with nothing in common add up to a mean of powers / channels: that much is no cancelling.
    if np.var(mixed, dtype=np.float64) < powers.sum() / samples.shape[1] ** 2 * 10 ** (-CANCELLED_DB / 10):
        return samples[:, int(powers.argmax())]
    return mixed


def _resample(samples: np.ndarray, rate: int) -> np.ndarray:
    if rate == SAMPLE_RATE:
        return samples
    import soxr

    # Constant rate, linear phase, compensated delay: sample n stays at n / rate seconds.
    made = soxr.resample(samples, rate, SAMPLE_RATE, quality=QUALITY)
    wanted = max(1, round(len(samples) * SAMPLE_RATE / rate))
    return np.pad(made[:wanted], (0, wanted - len(made[:wanted])))


def read_sound(audio: str | Path | tuple[Any, int]) -> tuple[np.ndarray, int]:
    """A sound as it is: (float32 [N, channels] in about [-1, 1], samples a second), checked."""
    if isinstance(audio, str | Path):
        path: Path | None = Path(audio)
        samples, rate = _read(Path(audio))
    elif isinstance(audio, tuple | list) and len(audio) == 2:
        path = None
        samples, rate = _from_array(*audio)
    else:
        raise TypeError(f"audio: expected a path or (samples, rate), got {type(audio).__name__}")
    problem = _problem(samples)
    if problem and path is not None:
        raise FileProblem(path, problem, "export it again, as 16-bit PCM for instance")
    if problem:
        raise ValueError(f"audio: {problem}")
    return samples, rate


def speech_of(samples: np.ndarray, rate: int) -> np.ndarray:
    """float32 [N] mono at 16 kHz, what features are made of, of what `read_sound` gives."""
    return np.ascontiguousarray(_resample(_mix(samples), rate))


def load_audio(audio: str | Path | tuple[Any, int]) -> np.ndarray:
    """A sound as float32 [N], mono at 16 kHz, in about [-1, 1].

    Any container, codec, rate and number of channels that FFmpeg reads; of a video, its sound from the
    first picture on. A file whose header says how long it should be (Ogg and ADTS have no such header) may
    not be shorter. Channels are averaged; where they cancel each other (opposite phase), the loudest is
    taken. Sound at 16 kHz mono comes back sample for sample. Clipping is no error, nor is silence: see
    `is_silent`. A constant offset stays, no front-end sees it.

    Args:
        audio: a path, or (samples, rate) with samples [N] or [N, channels] as float in about [-1, 1] or as
            int16, int32 or uint8 in the whole range of their type.

    Raises:
        FileProblem: the file is missing, empty, truncated or damaged, has no sound, holds NaN or numbers far
            beyond full scale, or lasts more than LONGEST_SECONDS.
        ValueError, TypeError: the same of samples, or a wrong shape, dtype or rate.

    Example:
        >>> load_audio((np.zeros((48000, 2), np.int16), 48000)).shape
        (16000,)
    """
    return speech_of(*read_sound(audio))
