"""Sound as a lossy codec leaves it, sample n still at sample n."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np

from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.errors import MissingBackend

# Encoder and container, of those whose delay FFmpeg writes into the file and takes back when it reads it.
# AAC as ADTS and G.722 are left out: nothing in them says how late they are.
CODECS = {"mp3": ("libmp3lame", "mp3"), "aac": ("aac", "mp4"), "opus": ("libopus", "ogg")}
LOWEST_BIT_RATE, HIGHEST_BIT_RATE = 8_000, 128_000


def _encode(samples: np.ndarray, codec: str, bit_rate: int) -> io.BytesIO:
    import av

    encoder, container_format = CODECS[codec]
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        try:
            stream: Any = container.add_stream(encoder, rate=SAMPLE_RATE, layout="mono")
        except (ValueError, av.error.FFmpegError) as error:
            raise MissingBackend(
                f"this FFmpeg has no encoder {encoder}", "pip install --force-reinstall av"
            ) from error
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        stream.codec_context.open()  # only then is its frame's size known
        resampler = av.AudioResampler(
            stream.format.name, "mono", SAMPLE_RATE, frame_size=stream.codec_context.frame_size
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    file.seek(0)
    return file


def encode_and_decode(samples: np.ndarray, codec: str, bit_rate: int) -> np.ndarray:
    """A sound as it is after a lossy codec, float32 [N], without delay.

    Args:
        samples: [N] float32, mono at 16 kHz, in [-1, 1].
        codec: one of CODECS.
        bit_rate: bits a second, LOWEST_BIT_RATE to HIGHEST_BIT_RATE; an encoder takes the nearest it has.

    Raises:
        ValueError: another shape, no sample, an unknown codec or a bit rate out of range.
        TypeError: samples of another dtype.
        MissingBackend: FFmpeg was built without the encoder.
    """
    import av

    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"samples: expected [N] with N of at least 1, got shape {list(samples.shape)}")
    if samples.dtype != np.float32:
        raise TypeError(f"samples: expected float32, got {samples.dtype}")
    if codec not in CODECS:
        raise ValueError(f"codec: expected one of {', '.join(CODECS)}, got {codec!r}")
    if not LOWEST_BIT_RATE <= bit_rate <= HIGHEST_BIT_RATE:
        raise ValueError(
            f"bit_rate: expected {LOWEST_BIT_RATE} to {HIGHEST_BIT_RATE} bits a second, got {bit_rate}"
        )
    # Opus decodes to 48 kHz whatever it was given.
    resampler = av.AudioResampler("fltp", "mono")
    with av.open(_encode(samples, codec, bit_rate), "r") as container:
        frames = list(container.decode(container.streams.audio[0]))
    rate = frames[0].sample_rate
    decoded = np.concatenate([piece.to_ndarray()[0] for f in frames for piece in resampler.resample(f)])
    if rate != SAMPLE_RATE:
        import soxr

        decoded = soxr.resample(decoded, rate, SAMPLE_RATE)
    return np.pad(decoded[: len(samples)], (0, max(0, len(samples) - len(decoded)))).astype(np.float32)
