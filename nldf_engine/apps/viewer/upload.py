"""Files that a browser sends: sound and pictures, checked before anything is decoded.

A media library opens what a file names, playlists and all. So a file must begin like one of the containers
below, none of which can name another file, and it is decoded from a temporary file that only this program
can read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from nldf_engine.audio import read_sound
from nldf_engine.base.errors import FileProblem
from nldf_engine.media.pictures import read_picture

T = TypeVar("T")

LARGEST_BYTES = 64 << 20
SOUNDS = "WAV, FLAC, MP3, Ogg, AIFF, AAC, MP4, MOV, M4A, Matroska or WebM"
PICTURES = "PNG, JPEG or WebP"
NAMELESS = "the file"


def sound_kind(data: bytes) -> str | None:
    """The ending of a container of sound that the bytes begin like; None for anything else."""
    head = data[:16]
    for ending, fits in {
        ".wav": head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE",
        ".flac": head[:4] == b"fLaC",
        ".ogg": head[:4] == b"OggS",
        ".aiff": head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"),
        ".mp4": head[4:8] == b"ftyp",
        ".mkv": head[:4] == b"\x1a\x45\xdf\xa3",
        ".mp3": head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2),
        ".aac": len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0,
    }.items():
        if fits:
            return ending
    return None


def picture_kind(data: bytes) -> str | None:
    """The ending of a picture's format that the bytes begin like; None for anything else."""
    for ending, fits in {
        ".png": data[:8] == b"\x89PNG\r\n\x1a\n",
        ".jpg": data[:3] == b"\xff\xd8\xff",
        ".webp": data[:4] == b"RIFF" and data[8:12] == b"WEBP",
    }.items():
        if fits:
            return ending
    return None


def plain_name(name: str) -> str:
    """The last part of a name that a browser gave, without what could be mistaken for more than a name."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in last if c.isprintable() and c not in "<>[]()`*_#|&\"'")
    return kept[:80] or NAMELESS


def read_uploaded_sound(name: str, data: bytes) -> tuple[np.ndarray, int]:
    """(samples [N, channels] float32, rate) of an uploaded file of sound, or of a video with sound.

    Raises:
        ValueError: it is too large, of another kind, or damaged; the message names no path.
    """
    return _read(name, data, sound_kind, SOUNDS, read_sound)


def read_uploaded_picture(name: str, data: bytes) -> np.ndarray:
    """uint8 [H, W, 3] of an uploaded picture.

    Raises:
        ValueError: it is too large, of another kind, or damaged; the message names no path.
    """
    return _read(
        name, data, picture_kind, PICTURES, lambda path: read_picture(path, "choose another picture")
    )


def _read(
    name: str, data: bytes, kind: Callable[[bytes], str | None], kinds: str, read: Callable[[Path], T]
) -> T:
    name = plain_name(name)
    if len(data) > LARGEST_BYTES:
        raise ValueError(f"{name}: it has {len(data) >> 20} MB, and {LARGEST_BYTES >> 20} MB are taken")
    ending = kind(data)
    if ending is None:
        raise ValueError(f"{name}: expected {kinds}, and it begins like none of them")
    with tempfile.TemporaryDirectory(prefix="nldf-view-") as folder:
        path = Path(folder) / f"upload{ending}"
        path.write_bytes(data)
        try:
            return read(path)
        except FileProblem as problem:
            raise ValueError(f"{name}: {problem.problem}") from problem
