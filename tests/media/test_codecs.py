"""Codecs leave every sample at its time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from nldf_engine.media.codecs import CODECS, encode_and_decode


@pytest.mark.parametrize("count", [1600, 16001, 100_000])
@pytest.mark.parametrize("bit_rate", [16_000, 48_000])
@pytest.mark.parametrize("codec", sorted(CODECS))
def test_no_delay(speech: np.ndarray, codec: str, bit_rate: int, count: int) -> None:
    """What comes back is as long, differs, and fits best where it was, to the sample."""
    sound = speech[4000 : 4000 + count]
    made = encode_and_decode(sound, codec, bit_rate)
    assert made.shape == sound.shape and made.dtype == np.float32 and not np.array_equal(made, sound)
    alike = signal.correlate(made, sound, method="fft")
    assert abs(int(alike.argmax()) - (count - 1)) <= 1
    assert np.corrcoef(made, sound)[0, 1] > 0.6


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("count", [1, 320, 1023])
def test_awkward_lengths(codec: str, count: int) -> None:
    """Less than a codec's frame, and digital silence, come back as long as they were."""
    made = encode_and_decode(np.zeros(count, np.float32), codec, 32_000)
    assert made.shape == (count,) and np.abs(made).max() < 0.01


def test_wrong_arguments() -> None:
    """Each is named, with what was expected."""
    sound = np.zeros(1600, np.float32)
    with pytest.raises(ValueError, match="codec: expected one of mp3, aac, opus, got 'flac'"):
        encode_and_decode(sound, "flac", 32_000)
    with pytest.raises(ValueError, match="bit_rate"):
        encode_and_decode(sound, "mp3", 10)
    with pytest.raises(ValueError, match="samples"):
        encode_and_decode(sound[:0], "mp3", 32_000)
    with pytest.raises(TypeError, match="float32"):
        encode_and_decode(sound.astype(np.float64), "mp3", 32_000)
