"""Any sound to float32 mono at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.roomy import Growing, let_go
from nldf_engine.media.containers import (
    COPY_AGAIN,
    LENGTH_IN_HEADER,
    MISSING_SECONDS,
    MISSING_SHARE,
    SOUND_AGAIN,
    breaks_off,
    check_file,
    check_whole,
    opened,
)
from nldf_engine.media.headers import mp3_counts_frames, wav_bytes
from nldf_engine.media.soundtrack import Soundtrack, find_soundtrack, joined

LONGEST_SECONDS = 3600  # an hour of 48 kHz stereo is 1.4 GB as it is (`Growing`), and 230 MB as speech
BLOCK = 1 << 18  # samples that are mixed and resampled at a time
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # samples a second; beyond, a header is taken for a damaged one
MOST_CHANNELS = 64
# Full scale is 1. Floats somewhat above it are clipping or headroom, far above it they are integers that
# nobody scaled, or damage.
LARGEST_SAMPLE = 64.0
# A stereo mix this far below its channels is two channels in opposite phase.
CANCELLED_DB = 20.0
QUALITY = "VHQ"  # of soxr's resampling
# Their headers count samples or hold an index; others guess from the bit rate.
_EXACT_LENGTH = {"w64", "flac", "aiff", "caf", "mov", "tta", "wv"} | LENGTH_IN_HEADER


def _check_length(seconds: float, path: str | Path | None) -> None:
    if seconds <= LONGEST_SECONDS:
        return
    problem = (
        f"it lasts {seconds / 60:.0f} minutes, more than the {LONGEST_SECONDS // 60} that are read at once"
    )
    if path is None:
        raise ValueError(f"audio: {problem}; cut it into parts")
    raise FileProblem(path, problem, "cut it into parts")


def _check_wav(path: Path) -> bool:
    """Whether the header of a WAV leaves out how long it is; False for anything else.

    Raises:
        FileProblem: the file is shorter than its header says, or holds nothing.
    """
    sizes = wav_bytes(path, LONGEST_SECONDS)
    if sizes is None:
        return False
    promised, present = sizes
    if promised is None:
        return True
    if not promised:
        raise FileProblem(path, "it holds no sound (0 samples)", COPY_AGAIN)
    if present < promised * (1 - MISSING_SHARE):
        raise FileProblem(path, f"it is cut short: {present} of {promised} bytes of sound", COPY_AGAIN)
    return False


def _stated_seconds(path: Path, track: Soundtrack) -> float | None:
    """How long the header says that the sound is, from the first picture on; None where it only guesses.

    Raises:
        FileProblem: the header says that it is more than LONGEST_SECONDS.
    """
    with opened(path) as container:
        stream = container.streams[track.index]
        base = stream.time_base or Fraction(1)
        own = stream.duration is not None
        seconds = float(stream.duration * base) if own else (container.duration or 0) / 1e6 or None
        formats = set(container.format.name.split(","))
        exact = bool(_EXACT_LENGTH & formats) or ("mp3" in formats and mp3_counts_frames(path))
        start = Fraction((stream.start_time or 0) * base)
    if seconds is None:
        return None
    _check_length(seconds, path)
    if exact and not own and not breaks_off(path):  # of other streams it may be the whole length
        return None
    lead = Fraction(0) if track.zero is None else max(Fraction(0), track.zero - start)
    return seconds - float(lead) if exact else None


def _blocks(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the sound of a file in blocks, (float32 [channels, n], samples a second), checked.

    Raises:
        FileProblem: see `load_audio`.
    """
    check_file(path, SOUND_AGAIN)
    check_whole(path)
    endless = _check_wav(path)
    track = find_soundtrack(path)
    expected = None if endless else _stated_seconds(path, track)
    count, rate, largest = 0, SAMPLE_RATE, 0.0
    for block, rate in track.blocks():
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            beyond = f"its sample rate is {rate} Hz, beyond {LOWEST_RATE}..{HIGHEST_RATE}"
            raise FileProblem(path, beyond, COPY_AGAIN)
        count += block.shape[1]
        _check_length(count / rate, path)
        largest = max(largest, float(block.max()), -float(block.min()))
        yield block, rate
    if not count:
        raise FileProblem(path, "it holds no sound (0 samples)", COPY_AGAIN)
    if largest > LARGEST_SAMPLE:
        problem = f"its samples reach {largest:.3g}, and full scale is 1"
        raise FileProblem(path, problem, "export it again, as 16-bit PCM for instance")
    seconds = count / rate
    if expected is not None and seconds < expected * (1 - MISSING_SHARE) - MISSING_SECONDS:
        raise FileProblem(
            path, f"it is cut short: {seconds:.1f} s of sound, and {expected:.1f} s expected", COPY_AGAIN
        )
    if endless:
        unsaid = f"its header does not say how long it is; all of its {seconds:.1f} s are used"
        track = replace(track, notes=(*track.notes, unsaid))
    track.warn()


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


class _Powers:
    """Whether channels cancel each other when they are mixed, as blocks of them go by."""

    def __init__(self) -> None:
        self._count, self._sums, self._squares = 0, np.zeros(1), np.zeros(1)

    def add(self, block: np.ndarray, mixed: np.ndarray) -> None:
        """Counts a block [channels, n] and its mix [n]."""
        rows = np.concatenate([block, mixed[None]]).astype(np.float64)
        self._count += rows.shape[1]
        self._sums = self._sums + rows.sum(1)
        self._squares = self._squares + np.einsum("cn,cn->c", rows, rows)

    def loudest(self) -> int | None:
        """The loudest channel, where the mix is far below its channels; else None."""
        if not self._count:
            return None
        powers = self._squares / self._count - (self._sums / self._count) ** 2
        channels, mixed = np.maximum(powers[:-1], 0), max(float(powers[-1]), 0.0)
        # Channels with nothing in common add up to a mean of powers / channels: that much is no cancelling.
        if mixed < channels.sum() / len(channels) ** 2 * 10 ** (-CANCELLED_DB / 10):
            return int(channels.argmax())
        return None


def _speech(blocks: Callable[[], Iterable[tuple[np.ndarray, int]]]) -> np.ndarray:
    """[N] mono at 16 kHz of blocks ([channels, n], rate): their mean, or the loudest of them.

    The loudest channel is taken where they cancel each other; blocks are read a second time then. Nothing but
    the result is held: an hour of any rate takes what an hour at 16 kHz does.
    """

    def pass_over(channel: int | None, powers: _Powers | None) -> np.ndarray:
        held, resampler, count, rate = Growing(), None, 0, SAMPLE_RATE
        for block, rate in blocks():
            mono = block.mean(0, dtype=np.float32) if channel is None else block[channel]
            mono = block[0] if len(block) == 1 else mono
            if powers is not None and len(block) > 1:
                powers.add(block, mono)
            count += len(mono)
            if rate != SAMPLE_RATE:
                resampler = resampler or _resampler(rate)
                mono = resampler(mono, False)
            if len(mono):
                held.add(mono[:, None])
        if resampler is not None:
            held.add(resampler(np.zeros(0, np.float32), True)[:, None])
        made, wanted = held.take()[:, 0], max(1, round(count * SAMPLE_RATE / rate))
        if len(made) == wanted:
            return made
        return np.pad(made[:wanted], (0, max(0, wanted - len(made))))

    powers = _Powers()
    mixed = pass_over(None, powers)
    loudest = powers.loudest()
    return mixed if loudest is None else pass_over(loudest, None)


def _resampler(rate: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    """From `rate` to 16 kHz, fed in pieces [n] and at the end with True."""
    import soxr

    # Constant rate, linear phase, compensated delay: sample n stays at n / rate seconds.
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality=QUALITY)

    def feed(piece: np.ndarray, last: bool) -> np.ndarray:
        made: np.ndarray = stream.resample_chunk(np.ascontiguousarray(piece), last=last)
        return made

    return feed


def read_sound(audio: str | Path | tuple[Any, int]) -> tuple[np.ndarray, int]:
    """A sound as it is: (float32 [N, channels] in about [-1, 1], samples a second), checked."""
    if isinstance(audio, str | Path):
        return joined(_blocks(Path(audio)))
    if not isinstance(audio, tuple | list) or len(audio) != 2:
        raise TypeError(f"audio: expected a path or (samples, rate), got {type(audio).__name__}")
    samples, rate = _from_array(*audio)
    problem = _problem(samples)
    if problem:
        raise ValueError(f"audio: {problem}")
    return samples, rate


def speech_of(samples: np.ndarray, rate: int) -> np.ndarray:
    """float32 [N] mono at 16 kHz, what features are made of, of what `read_sound` gives."""

    def blocks() -> Iterator[tuple[np.ndarray, int]]:
        for begin in range(0, len(samples), BLOCK):
            yield samples[begin : begin + BLOCK].T, rate
            let_go(samples)

    return np.ascontiguousarray(_speech(blocks))


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
    if isinstance(audio, str | Path):
        return np.ascontiguousarray(_speech(lambda: _blocks(Path(audio))))
    return speech_of(*read_sound(audio))
