"""Sound for the browser: an audio element that plays by itself, from a moment on."""

from __future__ import annotations

import base64
import io

import numpy as np

from nldf_engine.audio import speech_of
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.datasets.format import encode_wav

# Longer sounds go on without sound behind it; a browser takes this much in one message easily.
LONGEST_SECONDS = 300


class Playback:
    """A sound as HTML.

    Args:
        sound: (samples [N, channels], rate); None for silence.
    """

    def __init__(self, sound: tuple[np.ndarray, int] | None) -> None:
        self._samples = np.zeros(0, np.float32) if sound is None else speech_of(*sound)

    def html(self, seconds: float) -> str:
        """An element that plays the sound from a moment on; empty where nothing is left of it."""
        first = max(0, round(seconds * SAMPLE_RATE))
        rest = self._samples[first : first + LONGEST_SECONDS * SAMPLE_RATE]
        if not len(rest):
            return ""
        wav = io.BytesIO()
        encode_wav(wav, rest)
        data = base64.b64encode(wav.getvalue()).decode("ascii")
        return f'<audio autoplay src="data:audio/wav;base64,{data}"></audio>'
