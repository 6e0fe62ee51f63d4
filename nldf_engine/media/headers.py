"""What FFmpeg does not say about a sound file's header, and a truncated file is only known by."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

# Programs that write to a pipe don't know the length, and put one of these numbers or one near them.
_UNKNOWN_LENGTH = 0x7FF00000


def wav_bytes(path: Path, longest: float) -> tuple[int | None, int] | None:
    """(bytes of sound that a WAV header promises, bytes that are there); None for anything else.

    A header without a length (written to a pipe) promises nothing, which is None in the place of the number.
    Such headers hold all kinds of large numbers: what the file does not hold and would last longer than
    `longest` seconds is none that a program meant.
    """
    size, rate = path.stat().st_size, 0
    with open(path, "rb") as stream:
        head = stream.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        while len(head := stream.read(8)) == 8:
            name, length = head[:4], struct.unpack("<I", head[4:])[0]
            begin = stream.tell()
            if name == b"fmt " and length >= 12:
                rate = struct.unpack("<8xI", stream.read(12))[0]
            if name == b"data":
                present = size - begin
                beyond = length > present and rate > 0 and length > longest * rate
                if length >= _UNKNOWN_LENGTH or (length == 0 and present > 0) or beyond:
                    return None, present
                return length, min(present, length)
            stream.seek(begin + length + length % 2)
    return 0, 0


def mp3_counts_frames(path: Path) -> bool:
    """True for an MP3 whose first frame holds the number of frames; of others the length is a guess."""
    with open(path, "rb") as stream:
        head = stream.read(10)
        begin = 0
        if head[:3] == b"ID3" and len(head) == 10:
            # Seven bits a byte.
            begin = 10 + sum(
                (byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
            )
        stream.seek(begin)
        frame = stream.read(256)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def promised_bytes(path: Path) -> int | None:
    """How many bytes the header of a file says that it has, or has at least; None where it does not say."""
    with open(path, "rb") as stream:
        head = stream.read(_HEAD)
    for mark, promise in _PROMISES.items():
        if head.startswith(mark):
            try:
                return promise(head)
            except struct.error:  # the header itself is cut
                return None
    return None


def _avi(head: bytes) -> int | None:
    length = int(struct.unpack_from("<I", head, 4)[0])
    return 8 + length if head[8:12] == b"AVI " and 0 < length < _UNKNOWN_LENGTH else None


def _au(head: bytes) -> int | None:
    begin, length = struct.unpack_from(">II", head, 4)
    return begin + length if length < _UNKNOWN_LENGTH else None


def _w64(head: bytes) -> int | None:
    length = int(struct.unpack_from("<q", head, 16)[0])
    return length if length > 0 else None


def _caf(head: bytes) -> int | None:
    place = 8
    while place < len(head):
        name, length = struct.unpack_from(">4sq", head, place)
        place += 12 + max(0, length)
        if name == b"data":
            return place if length > 0 else None
    return None


def _asf(head: bytes) -> int | None:
    at = head.find(_ASF_FILE)
    if at < 0 or len(head) < at + len(_ASF_FILE) + 76:
        return None
    length, flags = (struct.unpack_from("<Q", head, at + len(_ASF_FILE) + place)[0] for place in (24, 72))
    if flags & 1:  # a broadcast, whose length nobody knew
        return None
    return length if 0 < length < 1 << 50 else None


_HEAD = 4096
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # its object "file properties"
_PROMISES: dict[bytes, Callable[[bytes], int | None]] = {
    b"RIFF": _avi, b".snd": _au, b"riff\x2e\x91\xcf\x11": _w64, b"caff": _caf,
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"): _asf,
}  # fmt: skip
