"""A picture as bytes: JPEG, H.264, or as it is; a sound: PCM or Opus. `ENCODERS` and `SOUNDS` list them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from nldf_engine.base.clock import FPS


class Encoder(Protocol):
    """Encodes consecutive pictures."""

    def __call__(self, picture: np.ndarray) -> tuple[bytes, bool]:
        """(bytes, whether they can be decoded without those before) of uint8 [H, W, 3]."""
        ...


class Jpeg:
    """Every picture by itself: about 10 kB at 256 x 256."""

    def __init__(self, quality: int) -> None:
        import cv2

        self._cv2, self._how = cv2, [cv2.IMWRITE_JPEG_QUALITY, quality]

    def __call__(self, picture: np.ndarray) -> tuple[bytes, bool]:
        """A JPEG file."""
        good, made = self._cv2.imencode(".jpg", picture[:, :, 2::-1], self._how)
        if not good:
            raise RuntimeError("JPEG: OpenCV could not encode the picture")
        return made.tobytes(), True


class H264:
    """A stream of H.264 (baseline, Annex B, no reordering), a key frame every two seconds."""

    def __init__(self, quality: int) -> None:
        # x264's scale is the other way round: 18 is all but lossless, 35 is coarse.
        self._crf = round(35 - 0.17 * quality)
        self._codec: Any = None

    def _open(self, height: int, width: int) -> None:
        import av

        codec = av.CodecContext.create("libx264", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
        codec.framerate = Fraction(FPS)
        codec.gop_size, codec.thread_count = round(2 * FPS), 1
        codec.options = {
            "preset": "superfast", "tune": "zerolatency", "profile": "baseline", "crf": str(self._crf),
        }  # fmt: skip
        self._codec = codec

    def __call__(self, picture: np.ndarray) -> tuple[bytes, bool]:
        """The packets of one picture; an odd last row or column is left out."""
        import av

        height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        if self._codec is None:
            self._open(height, width)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width, :3]), "rgb24")
        packets = self._codec.encode(frame)
        return b"".join(bytes(packet) for packet in packets), any(packet.is_keyframe for packet in packets)


class Raw:
    """RGB rows behind their size, two u32: for what encodes it later."""

    def __init__(self, quality: int) -> None:
        pass

    def __call__(self, picture: np.ndarray) -> tuple[bytes, bool]:
        """Height and width, little-endian, and the pixels."""
        size = np.array(picture.shape[:2], "<u4").tobytes()
        return size + np.ascontiguousarray(picture[:, :, :3]).tobytes(), True

    @staticmethod
    def decode(content: bytes) -> np.ndarray:
        """The picture again, uint8 [H, W, 3]."""
        height, width = np.frombuffer(content, "<u4", 2)
        return np.frombuffer(content, np.uint8, offset=8).reshape(int(height), int(width), 3)


ENCODERS: dict[str, type[Jpeg] | type[H264] | type[Raw]] = {"jpeg": Jpeg, "h264": H264, "raw": Raw}


class Pcm:
    """16-bit PCM: what came as such at the same rate goes out as it came."""

    def __init__(self, rate: int) -> None:
        pass

    def __call__(self, sound: np.ndarray) -> bytes:
        """Little-endian samples of float32 [n]."""
        return bytes(np.rint(sound * 32_768).clip(-32_768, 32_767).astype("<i2").tobytes())


class Opus:
    """A packet a tick, of 40 ms; decoded, it comes 6.5 ms later than it went in.

    Args:
        rate: one of OPUS_RATES.
    """

    def __init__(self, rate: int) -> None:
        import av

        codec = av.CodecContext.create("libopus", "w")
        codec.sample_rate, codec.layout, codec.format = rate, "mono", "s16"
        codec.time_base, codec.bit_rate = Fraction(1, rate), 32_000
        codec.options = {"application": "voip", "frame_duration": "40"}
        self._codec, self._rate, self._done = codec, rate, 0

    def __call__(self, sound: np.ndarray) -> bytes:
        """The packet of float32 [rate / 25]."""
        import av

        samples = np.rint(sound * 32_767).clip(-32_768, 32_767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._done, Fraction(1, self._rate)
        self._done += len(samples)
        return b"".join(bytes(packet) for packet in self._codec.encode(frame))


OPUS_RATES = (8000, 12_000, 16_000, 24_000, 48_000)
SOUNDS: dict[str, type[Pcm] | type[Opus]] = {"pcm": Pcm, "opus": Opus}
