"""Features of a sound that is still arriving, the same as those of the whole sound.

    sound, stream = SoundStream(), FeatureStream("mel")
    for chunk in microphone:
        windows = stream.push(sound.push(chunk))       # [n, 16, 29]: n frames are ready
    windows = stream.push(sound.finish()), stream.finish()

Frames keep the clock of `audio.windows`: frame t belongs to t / 25 s of the sound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nldf_engine.audio.frontends import FRONTENDS, FrontendConfig
from nldf_engine.audio.interface import FrontendSettings, RowStream
from nldf_engine.audio.windows import BEFORE, STRIDE, WINDOW, count_frames
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.media.sound import QUALITY, read_sound


class SoundStream:
    """Chunks of sound to float32 mono at 16 kHz.

    A sound at 16 kHz comes out at once. Another rate is resampled as `load_audio` does it, whose long
    filter holds back up to an eighth of a second. Channels are averaged; other than `load_audio`, which
    sees the whole sound, it can't tell that two channels are in opposite phase.
    """

    def __init__(self) -> None:
        self._rate = 0
        self._resampler: Any = None
        self._came = self._gone = 0

    def push(self, chunk: np.ndarray | tuple[Any, int]) -> np.ndarray:
        """[n] float32 at 16 kHz of a chunk: samples at 16 kHz, or (samples, rate); none of an empty one.

        Args:
            chunk: samples [N] or [N, channels] as float in about [-1, 1] or as int16, int32 or uint8 in
                the whole range of their type; the rate is the same for all chunks.

        Raises:
            TypeError, ValueError: see `load_audio`; or another rate than that of the chunks before.
        """
        samples, rate = chunk if isinstance(chunk, tuple) and len(chunk) == 2 else (chunk, SAMPLE_RATE)
        if not hasattr(samples, "shape"):
            raise TypeError(
                f"chunks: expected arrays of samples at {SAMPLE_RATE} Hz or (samples, rate), "
                f"got {type(chunk).__name__}"
            )
        if 0 in samples.shape:
            return np.zeros(0, np.float32)
        read, rate = read_sound((samples, rate))
        if self._rate not in (0, rate):
            raise ValueError(f"chunks: expected {self._rate} samples a second as before, got {rate}")
        self._rate = rate
        mono = read[:, 0] if read.shape[1] == 1 else read.mean(axis=1, dtype=np.float32)
        self._came += len(mono)
        return self._resampled(np.ascontiguousarray(mono))

    def finish(self) -> np.ndarray:
        """[n] float32: what resampling has held back."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        rest = self._resampled(np.zeros(0, np.float32), last=True)
        missing = max(1, round(self._came * SAMPLE_RATE / self._rate)) - (self._gone - len(rest))
        return np.pad(rest[: max(0, missing)], (0, max(0, missing - len(rest))))

    def _resampled(self, mono: np.ndarray, last: bool = False) -> np.ndarray:
        if self._rate != SAMPLE_RATE:
            if self._resampler is None:
                import soxr

                self._resampler = soxr.ResampleStream(
                    self._rate, SAMPLE_RATE, 1, dtype="float32", quality=QUALITY
                )
            mono = self._resampler.resample_chunk(mono, last=last)
        self._gone += len(mono)
        return mono


class FeatureStream:
    """`features` of a sound that is still arriving.

    Args:
        config: the front-end.

    Raises:
        ValueError: the front-end needs the whole sound.
    """

    def __init__(self, config: FrontendConfig) -> None:
        self._rows = _streaming(config)(config)
        # The rows from the next frame's window on; rows before the sound are zeros.
        self._kept = np.zeros((BEFORE, config.resolve().dim), np.float32)
        self._samples = self._frames = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Windows [n, 16, D] of the frames that these samples [N] float32 at 16 kHz complete."""
        self._samples += len(samples)
        self._kept = np.concatenate([self._kept, self._rows.push(samples)])
        return self._take(max(0, (len(self._kept) - WINDOW) // STRIDE + 1))

    def finish(self) -> np.ndarray:
        """Windows of the frames that are left when the sound has ended; zeros follow."""
        frames = (count_frames(self._samples) if self._samples else 0) - self._frames
        rows = np.concatenate([self._kept, self._rows.finish()])
        needed = max(0, STRIDE * (frames - 1) + WINDOW)
        self._kept = np.pad(rows[:needed], ((0, max(0, needed - len(rows))), (0, 0)))
        return self._take(max(0, frames))

    def _take(self, frames: int) -> np.ndarray:
        if not frames:
            return np.zeros((0, WINDOW, self._kept.shape[1]), np.float32)
        views = np.lib.stride_tricks.sliding_window_view(self._kept, WINDOW, axis=0)
        made = np.ascontiguousarray(views[: STRIDE * frames : STRIDE].transpose(0, 2, 1))
        self._kept = self._kept[STRIDE * frames :].copy()
        self._frames += frames
        return made


def check_streams(config: FrontendConfig) -> None:
    """Refuses a front-end that can't stream.

    Raises:
        ValueError: it can't; the message names those that can.
    """
    _streaming(config)


def _streaming(config: FrontendConfig) -> Callable[[FrontendSettings], RowStream]:
    """What makes the rows' stream of a front-end that can stream."""
    make = config.kind.stream
    if make is None:
        able = ", ".join(name for name, frontend in FRONTENDS.items() if frontend.stream)
        raise ValueError(
            f"audio front-end {config.name!r} needs the whole sound and can't stream; use Engine.render, "
            f"or an avatar trained with a front-end that can: {able}"
        )
    return make


def look_ahead_seconds(config: FrontendConfig) -> float:
    """How much of the sound beyond its moment a frame's features need, in seconds.

    Raises:
        ValueError: the front-end can't stream.
    """
    check_streams(config)
    return config.kind.look_ahead(config) / SAMPLE_RATE
