"""Makes nldf_engine/audio/mel_filters.npy: the mel front-end's filters, by librosa.

    python scripts/mel_filters.py

The package reads the matrix and needs no librosa for it; tests/audio/test_mel.py compares the file with what
this makes. Run it after a change of the front-end's constants, and raise the front-end's revision then.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.audio import mel
from nldf_engine.base.clock import SAMPLE_RATE


def make_filters() -> np.ndarray:
    """[BANDS, FFT / 2 + 1] float32: Slaney's mel bands over the power spectrum of Hann windows.

    Bands without area normalisation add up to about one at every frequency: powers, not densities. They are
    scaled so that a sine of full scale has the power 1/2 in its band.
    """
    import librosa

    bands = librosa.filters.mel(
        sr=SAMPLE_RATE,
        n_fft=mel.FFT,
        n_mels=mel.BANDS,
        fmin=mel.LOWEST_HZ,
        fmax=mel.HIGHEST_HZ,
        norm=None,
        dtype=np.float64,
    )
    return (bands * (2.0 / (mel.FFT * np.square(mel.HANN).sum()))).astype(np.float32)


if __name__ == "__main__":
    np.save(mel.FILTERS, make_filters())
    print(mel.FILTERS)
