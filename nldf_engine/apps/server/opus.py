"""Opus (RFC 6716) that clients of the websocket send: packets with time stamps, to PCM at 48 kHz."""

from __future__ import annotations

import struct
from typing import Any

RATE = 48_000
STAMP = struct.Struct("<I")
"""Before each packet: the time of its first sample, in samples at 48 kHz, modulo 2^32."""
LARGEST = 1275 * 6 + 64
"""Bytes of a packet at most."""
LONGEST = RATE * 120 // 1000  # samples of a packet
FILLED = RATE // 2
"""Samples that silence stands for where packets are missing; a longer gap is a pause of the speaker's."""
HALF = 1 << 31
# Samples of a frame by the configuration in a packet's first byte (RFC 6716, table 2): SILK, hybrid, CELT.
_SIZES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4


def samples_of(packet: bytes) -> int:
    """How many samples at 48 kHz a packet is of, by its head.

    Raises:
        ValueError: it is none.
    """
    if not packet or len(packet) > LARGEST:
        raise ValueError(f"Opus: expected a packet of 1 to {LARGEST} bytes, got {len(packet)}")
    kind = packet[0] & 3
    if kind == 3 and len(packet) < 2:
        raise ValueError("Opus: the packet ends within its head")
    frames = (1, 2, 2, packet[1] & 63 if kind == 3 else 0)[kind]
    samples = frames * _SIZES[packet[0] >> 3]
    if not 0 < samples <= LONGEST:
        raise ValueError(f"Opus: a packet has at most 120 ms, and this one says {samples / 48:g} ms")
    return samples


class OpusIn:
    """What one client sends.

    Args:
        channels: that come out, 1 or 2.
    """

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._due: int | None = None  # time stamp of the next packet
        self._codec: Any = None

    def _open(self) -> Any:
        import av

        codec = av.CodecContext.create("libopus", "r")
        codec.sample_rate, codec.layout = RATE, "mono" if self._channels == 1 else "stereo"
        return codec

    def push(self, message: bytes) -> bytes:
        """The sound that a message completes: 16-bit PCM, interleaved.

        Packets that come too late, or twice, are dropped. Silence stands for missing ones.

        Raises:
            ValueError: no time stamp, or no packet of Opus. What follows is decoded afresh.
        """
        if len(message) <= STAMP.size:
            raise ValueError(
                f"Opus: expected a time stamp of {STAMP.size} bytes and a packet, got {len(message)} bytes"
            )
        (stamp,) = STAMP.unpack_from(message)
        packet = message[STAMP.size :]
        samples = samples_of(packet)
        gap = 0 if self._due is None else (stamp - self._due) % (2 * HALF)
        if gap >= HALF:  # before what was said already
            return b""
        sound = self._decode(packet, samples)
        self._due = (stamp + samples) % (2 * HALF)
        filled = gap if gap <= FILLED else 0
        return b"\0" * (2 * self._channels * filled) + sound

    def restart(self) -> None:
        """What comes next begins a new sound, at any time stamp."""
        self._due = None

    def _decode(self, packet: bytes, samples: int) -> bytes:
        import av

        if self._codec is None:
            self._codec = self._open()
        try:
            frames = self._codec.decode(av.Packet(packet))
        except av.error.FFmpegError as error:
            self._codec, self._due = None, None
            raise ValueError(f"Opus: the packet can't be decoded ({error.strerror})") from error
        parts = [_interleaved(frame) for frame in frames]
        return b"".join(parts)[: 2 * self._channels * samples]


def _interleaved(frame: Any) -> bytes:
    import numpy as np

    made = frame.to_ndarray()
    if made.dtype != np.int16:
        made = np.rint(made * 32_768).clip(-32_768, 32_767).astype(np.int16)
    if frame.format.is_planar:
        made = made.T
    return bytes(np.ascontiguousarray(made, "<i2").tobytes())
