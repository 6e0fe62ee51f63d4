"""A sound on its way into a file, brought piece by piece to what its encoder takes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from nldf_engine.base.roomy import let_go

# What a sound is brought to where the codec does not take its own rate. Every player takes it, and below
# 32 kHz a block of AAC is longer than a frame: sound and picture would not end together.
SOUND_RATE = 48_000
BLOCK = 8192  # samples that are encoded at a time
_PIECE = 1 << 16  # samples that are read at a time
_KEPT_RATES = {"aac": (32_000, 44_100, 48_000, 64_000, 88_200, 96_000)}
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


class SoundFeed:
    """Encodes a sound from its beginning on, and silence behind its end; nothing but a piece of it is copied.

    Args:
        samples: float [N] or [N, channels].
        rate: samples a second.
        codec: FFmpeg's encoder. It gets the sound's own rate where that is one of its own, else 48 kHz; one,
            two and six (5.1) channels, or the mean of another number.

    Attributes:
        rate: samples a second that the encoder gets.
        sent: samples that it got so far.

    Raises:
        ValueError: another shape or dtype, or no positive rate.
    """

    def __init__(self, samples: np.ndarray, rate: int, codec: str) -> None:
        samples = samples if isinstance(samples, np.ndarray) else np.asarray(samples)
        if samples.ndim not in (1, 2) or rate <= 0:
            raise ValueError(
                f"VideoWriter: audio must be [N] or [N, channels] at a positive rate, got {samples.shape}"
            )
        if not np.issubdtype(samples.dtype, np.floating):
            raise ValueError(f"VideoWriter: audio samples must be float in [-1, 1], got {samples.dtype}")
        self._codec, self._samples, self._given = codec, samples, int(rate)
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        self._channels = channels if channels in _LAYOUTS else 1
        self.rate = self._given if rate in _KEPT_RATES.get(codec, (SOUND_RATE,)) else SOUND_RATE
        self.sent = 0
        self._pieces = self._planes() if self.rate == self._given else self._resampled()
        self._rest = np.zeros((self._channels, 0), np.float32)

    def stream(self, container: Any) -> Any:
        """A stream of an av container for it."""
        return container.add_stream(self._codec, rate=self.rate, layout=_LAYOUTS[self._channels])

    def send(self, container: Any, stream: Any, until: int) -> None:
        """Encodes what comes up to sample `until`."""
        import av

        while self.sent < until:
            piece = self._next(min(BLOCK, until - self.sent))
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=stream.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = stream.rate, self.sent, Fraction(1, stream.rate)
            container.mux(stream.encode(frame))
            self.sent += piece.shape[1]

    def _next(self, count: int) -> np.ndarray:
        """The next samples [channels, count]."""
        parts, missing = [self._rest], count - self._rest.shape[1]
        while missing > 0:
            piece = next(self._pieces, None)
            parts.append(np.zeros((self._channels, missing), np.float32) if piece is None else piece)
            missing -= parts[-1].shape[1]
        joined = np.concatenate(parts, axis=1)
        self._rest = joined[:, count:]
        return np.ascontiguousarray(joined[:, :count])

    def _planes(self) -> Iterator[np.ndarray]:
        """Float32 [channels, n] in [-1, 1] at the rate that was given."""
        for begin in range(0, len(self._samples), _PIECE):
            piece = self._samples[begin : begin + _PIECE]
            piece = piece[None] if piece.ndim == 1 else piece.T
            piece = piece if len(piece) == self._channels else piece.mean(0, keepdims=True)
            yield np.ascontiguousarray(np.clip(np.nan_to_num(piece), -1, 1), dtype=np.float32)
            let_go(self._samples)

    def _resampled(self) -> Iterator[np.ndarray]:
        import av

        if not len(self._samples):
            return
        layout, place = _LAYOUTS[self._channels], 0
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=self.rate)
        for piece in self._planes():
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = self._given, place, Fraction(1, self._given)
            place += piece.shape[1]
            yield from (made.to_ndarray() for made in resampler.resample(frame))
        yield from (made.to_ndarray() for made in resampler.resample(None))
