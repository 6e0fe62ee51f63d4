"""Sounds that tests of audio and media share: files of any codec, and something like speech."""

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from nldf_engine.datasets.format import encode_wav


def _encode(path: Path, samples: np.ndarray, rate: int, codec: str, **options: str) -> Path:
    """Writes float samples [channels, N] with FFmpeg's encoder `codec`, container by the path's ending."""
    import av

    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        if codec.startswith("wma"):
            stream.bit_rate = 128_000  # it has no default
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        size = stream.codec_context.frame_size or 0
        wanted = stream.codec_context.codec.audio_formats[0].name if codec == "flac" else stream.format.name
        stream.format = wanted
        resampler = av.AudioResampler(format=wanted, layout=layout, rate=rate, frame_size=size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def _float_wav(path: Path, samples: np.ndarray, rate: int = 16000, data_bytes: int | None = None) -> Path:
    """Writes float samples [N] or [N, channels] as a 32-bit float WAV, whatever they hold."""
    samples = np.asarray(samples, "<f4")
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    data = samples.tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, channels, rate, rate * 4 * channels, 4 * channels, 32)
    size = len(data) if data_bytes is None else data_bytes
    path.write_bytes(
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVE"
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )
    return path


@pytest.fixture(scope="session")
def encode() -> Callable[..., Path]:
    return _encode


@pytest.fixture(scope="session")
def float_wav() -> Callable[..., Path]:
    return _float_wav


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """Twelve seconds like speech: voiced syllables of changing colour, hisses and pauses over faint noise."""
    random = np.random.default_rng(0)
    rate, parts = 16000, []
    for _ in range(48):
        count = 4000
        time = np.arange(count) / rate
        pitch = random.uniform(90, 180)
        voice = sum(
            np.sin(2 * np.pi * pitch * k * time) / k ** random.uniform(0.5, 1.5) for k in range(1, 30)
        )
        kind = random.random()
        if kind < 0.25:
            voice = np.zeros(count)
        elif kind < 0.45:
            voice = np.diff(random.standard_normal(count + 1))
        parts.append(voice * np.hanning(count) * random.uniform(0.5, 1))
    sound = np.concatenate(parts)
    sound = 0.5 * sound / np.abs(sound).max() + 1e-4 * random.standard_normal(len(sound))
    return sound.astype(np.float32)


def wav_bytes(samples: np.ndarray) -> bytes:
    """A wav file of samples [N] at 16 kHz."""
    file = io.BytesIO()
    encode_wav(file, samples)
    return file.getvalue()
