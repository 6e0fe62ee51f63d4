"""What FFmpeg does not say about the header of a file: how long it is, whether a second file follows."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO

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


def appended_at(path: Path) -> int | None:
    """The byte at which a second file follows the first, of a kind of which FFmpeg reads the first alone.

    None where there is none, or where the second is read as well.
    """
    with open(path, "rb") as stream:
        head = stream.read(_HEAD)
        if head[4:8] in _BOXES:
            boxes = top_boxes(path)
            names = [name for name, _ in boxes]
            movies = [place for name, place in boxes if name == b"moov"]
            # An index that was saved twice is no second file.
            again = names.count(b"ftyp") > 1 or names.count(b"mdat") > 1
            if len(movies) < 2 or not again or b"moof" in names:
                return None
            return next((place for name, place in boxes[1:] if name == b"ftyp"), movies[1])
        for mark, find in _ENDS.items():
            if not head.startswith(mark):
                continue
            try:
                end = find(head, stream)
            except struct.error:
                return None
            if end is None:
                return None
            stream.seek(end)
            return end if stream.read(len(mark)) == mark else None
    return None


def top_boxes(path: Path) -> list[tuple[bytes, int]]:
    """(name, byte) of the boxes that an MP4 or MOV is made of; what follows no box is left out."""
    found, place, size = [], 0, path.stat().st_size
    with open(path, "rb") as stream:
        while place + 8 <= size:
            stream.seek(place)
            head = stream.read(16)
            length, name = struct.unpack_from(">I4s", head)
            if length == 1 and len(head) == 16:
                length = struct.unpack_from(">Q", head, 8)[0]
            found.append((name, place))
            if length < 8:  # to the end, or no box
                break
            place += length
    return found


def _wave_end(head: bytes, _: IO[bytes]) -> int | None:
    length = int(struct.unpack_from("<I", head, 4)[0])
    known = head[8:12] == b"WAVE" and 0 < length < _UNKNOWN_LENGTH
    return 8 + length + length % 2 if known else None


def _aiff_end(head: bytes, _: IO[bytes]) -> int | None:
    length = int(struct.unpack_from(">I", head, 4)[0])
    return 8 + length + length % 2 if 0 < length < _UNKNOWN_LENGTH else None


def _promised(promise: Callable[[bytes], int | None]) -> Callable[[bytes, IO[bytes]], int | None]:
    return lambda head, _: promise(head)


def _head_again(length: int) -> Callable[[bytes, IO[bytes]], int | None]:
    """Looks for the first `length` bytes of a file in the rest of it."""

    def find(head: bytes, stream: IO[bytes]) -> int | None:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            end = data.find(head[:length], length)
        return end if end > 0 else None

    return find


def missing_lengths(path: Path) -> list[tuple[int, bytes]]:
    """What must stand in the header of a sound that was written to a pipe, for FFmpeg to read it.

    Returns:
        (byte, what must stand there) of W64, AIFF and RF64 that say nothing of their length; else nothing.
    """
    with open(path, "rb") as stream:
        head, size = stream.read(_HEAD), os.fstat(stream.fileno()).st_size
    for mark, find in _LENGTHS.items():
        if head.startswith(mark):
            try:
                return find(head, size)
            except struct.error:
                return []
    return []


def _chunk(head: bytes, form: str, place: int, even: int, name: bytes) -> tuple[int, int] | None:
    """(byte, stated length) of the chunk `name`, its head included in neither."""
    bytes_ = struct.calcsize(form)
    while place + bytes_ <= len(head):
        found, length = struct.unpack_from(form, head, place)
        length -= bytes_ if len(found) == 16 else 0  # W64 counts the head of a chunk, others don't
        place += bytes_
        if found.startswith(name):
            return place, length
        place += max(0, length)
        place += -place % even
    return None


def _w64_lengths(head: bytes, size: int) -> list[tuple[int, bytes]]:
    data = _chunk(head, "<16sq", 40, 8, b"data")
    empty = data is not None and data[1] == 0 and 0 < struct.unpack_from("<q", head, 16)[0] <= size
    if data is None or empty or 0 < data[1] < 1 << 48 or data[0] >= size:
        return []
    return [(16, struct.pack("<q", size)), (data[0] - 8, struct.pack("<q", size - data[0] + 24))]


def _aiff_lengths(head: bytes, size: int) -> list[tuple[int, bytes]]:
    form, data = struct.unpack_from(">I", head, 4)[0], _chunk(head, ">4sI", 12, 2, b"SSND")
    whole = 8 + form + form % 2 == size  # a long one, whose length is no mark
    if data is None or 0 < form < _UNKNOWN_LENGTH or whole or data[0] + 8 >= size or size >= 1 << 32:
        return []
    known = 0 < data[1] < _UNKNOWN_LENGTH and data[0] + data[1] <= size
    sound = [] if known else [(data[0] - 4, struct.pack(">I", size - data[0]))]
    return [(4, struct.pack(">I", size - 8)), *sound]


def _rf64_lengths(head: bytes, size: int) -> list[tuple[int, bytes]]:
    data = _chunk(head, "<4sI", 12, 2, b"data")
    if data is None or head[12:16] != b"ds64" or any(head[20:36]) or data[0] >= size:
        return []
    return [(20, struct.pack("<QQ", size - 8, size - data[0]))]


_HEAD = 4096
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # its object "file properties"
_PROMISES: dict[bytes, Callable[[bytes], int | None]] = {
    b"RIFF": _avi, b".snd": _au, b"riff\x2e\x91\xcf\x11": _w64, b"caff": _caf,
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"): _asf,
}  # fmt: skip
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# A second file behind the end that these say is not read; one of AVI, Ogg or MPEG is.
_ENDS: dict[bytes, Callable[[bytes, IO[bytes]], int | None]] = {
    **{mark: _promised(promise) for mark, promise in _PROMISES.items()},
    b"RIFF": _wave_end, b"FORM": _aiff_end, b"FLV\x01": _head_again(13), b"fLaC": _head_again(8),
}  # fmt: skip
_LENGTHS: dict[bytes, Callable[[bytes, int], list[tuple[int, bytes]]]] = {
    b"riff\x2e\x91\xcf\x11": _w64_lengths, b"FORM": _aiff_lengths, b"RF64": _rf64_lengths,
}  # fmt: skip
