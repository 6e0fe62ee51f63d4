"""Another sampling rate with a millisecond of delay, for sound that is still arriving.

`audio.SoundStream` has a longer filter, which holds back up to an eighth of a second: right for a recording,
too long for a conversation. This one is that of FFmpeg's libswresample: 16 samples to either side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

HELD = 16
"""Samples, of the lower of two rates, that the filter looks ahead."""


def held_seconds(rate: int, to: int) -> float:
    """Seconds by which sound that is resampled from `rate` to `to` comes later."""
    return 0.0 if rate == to else (HELD + 1) / min(rate, to)


class Resampler:
    """Mono sound at one rate to another one, chunk by chunk; sample n of the output is at n / to seconds.

    Args:
        rate, to: samples a second that come, and that are wanted.
    """

    def __init__(self, rate: int, to: int) -> None:
        self.rate, self.to = rate, to
        self._begin()

    def _begin(self) -> None:
        self._came = self._gone = 0
        self._resampler: Any = None
        if self.rate != self.to:
            import av

            self._resampler = av.AudioResampler("fltp", "mono", self.to)

    def push(self, mono: np.ndarray) -> np.ndarray:
        """[n] float32 at `to` that the samples [N] float32 complete."""
        if self._resampler is None or not len(mono):
            return mono
        import av

        self._came += len(mono)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono)[None], "fltp", "mono")
        frame.sample_rate = self.rate
        made = _joined(self._resampler.resample(frame))
        self._gone += len(made)
        return made

    def finish(self) -> np.ndarray:
        """[n] float32: what was held back. Afterwards another sound begins."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        missing = max(0, round(self._came * self.to / self.rate) - self._gone)
        made = _joined(self._resampler.resample(None))[:missing] if self._came else np.zeros(0, np.float32)
        self._begin()
        return np.pad(made, (0, missing - len(made)))


def _joined(frames: list[Any]) -> np.ndarray:
    parts = [frame.to_ndarray()[0] for frame in frames]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
