"""Pictures: read from files whole, as RGB, and written whole or not at all; scaled; holes filled.

FFmpeg's codecs read and write them, through PyAV, which is there for videos anyway: pictures need no library
of their own. A codec is chosen by how a file begins, so that none of FFmpeg's containers, some of which open
further files, is ever tried on it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_path

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_JPEG, _PROGRESSIVE, _SCAN, _JPEG_END = b"\xff\xd8", b"\xc2", b"\xda", b"\xff\xd9"
# How a file begins, and FFmpeg's decoder for it.
DECODERS = {
    _PNG: "png",
    b"\xff\xd8\xff": "mjpeg",
    b"RIFF": "webp",
    b"BM": "bmp",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
}
MOST_PIXELS = 1 << 28  # of a picture; beyond it a header is taken for a damaged one


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Nothing that C code writes to stderr inside the block is seen.

    FFmpeg complains there of a damaged picture, beside the one line that we say about it. It writes to the
    descriptor, past `sys.stderr`.
    """
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a process without stderr has nothing to silence
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def read_picture(path: str | Path, remedy: str) -> np.ndarray:
    """[H, W, 3] uint8 RGB of a picture file.

    Args:
        path: a PNG, JPEG, WebP, BMP or TIFF. Photos are turned upright as their EXIF says, and what is
            see-through is composited over white.
        remedy: what the person who gave it can do where it is none.

    Raises:
        FileProblem: the file is missing, empty, cut short or no picture.
    """
    path = Path(path)
    if path.is_dir():
        raise FileProblem(path, "it is a folder, and a picture was expected", remedy)
    if not path.is_file():
        raise FileProblem(path, "there is no such picture", remedy)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileProblem(path, f"it can't be read ({error.strerror})", remedy) from error
    if not data:
        raise FileProblem(path, "it is empty (0 bytes)", remedy)
    if is_cut(data):
        raise FileProblem(path, "it is cut short", remedy)
    decoder = next((name for begin, name in DECODERS.items() if data.startswith(begin)), None)
    picture = _decoded(data, decoder) if decoder else None
    if picture is None:
        raise FileProblem(
            path, "it is no picture that can be read (PNG, JPEG, WebP, BMP and TIFF can)", remedy
        )
    return picture


def read_levels(path: Path, flags: int, remedy: str) -> np.ndarray:
    """A picture file as OpenCV decodes it: [H, W] or [H, W, 3 or 4] of its own type, BGR, read once.

    Args:
        path: the file.
        flags: of `cv2.imdecode`.
        remedy: what the person who gave it can do where it is none.

    Raises:
        FileProblem: the file can't be read, is cut short or no picture.
    """
    import cv2

    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileProblem(path, f"it can't be read ({error.strerror})", remedy) from error
    if is_cut(data):
        raise FileProblem(path, "it is cut short", remedy)
    if data.startswith(_JPEG):  # without its last mark OpenCV leaves out the end
        data += _JPEG_END
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if picture is None:
        raise FileProblem(path, "it is no readable picture", remedy)
    return picture


def is_cut(data: bytes) -> bool:
    """Whether a PNG or JPEG ends before its picture does; decoders fill the rest with black or grey.

    What lies behind the picture plays no part. A JPEG that lacks its last mark alone is whole, where that can
    be known: a progressive one may lack a scan, which is not seen, and is taken for cut.
    """
    if data.startswith(_PNG):
        place = len(_PNG)
        while data[place + 4 : place + 8] != _PNG_END:
            if place >= len(data):
                return True
            place += 12 + int.from_bytes(data[place : place + 4], "big")
        return False
    if not data.startswith(_JPEG):
        return False
    place, progressive = len(_JPEG), False
    while data[place : place + 1] == b"\xff":  # segments, one of which may hold a whole small picture
        mark = data[place + 1 : place + 2]
        if mark == b"\xff":  # one of the bytes that may fill the room before a mark
            place += 1
            continue
        progressive = progressive or mark == _PROGRESSIVE
        if mark == _SCAN:
            return data.find(_JPEG_END, place) < 0 and (progressive or _goes_on(data))
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return place >= len(data)


def _goes_on(data: bytes) -> bool:
    """Whether what follows the bytes of a JPEG would change its picture, which then is not all in them."""
    made = [_decoded(data + 64 * tail + _JPEG_END, "mjpeg") for tail in (b"\0", b"\x5a", b"\xa3", b"\x3c")]
    first = made[0]
    return first is None or any(one is None or not np.array_equal(one, first) for one in made[1:])


def _decoded(data: bytes, decoder: str) -> np.ndarray | None:
    """[H, W, 3] uint8 RGB of a picture file's bytes, upright; None where the decoder can't read them."""
    import av

    with quiet_libraries():
        try:
            codec: Any = av.CodecContext.create(decoder, "r")
            codec.options = {"max_pixels": str(MOST_PIXELS)}
            frame = [*codec.decode(av.Packet(data)), *codec.decode(None)][0]
        except (av.FFmpegError, IndexError):
            return None
    see_through = any(component.is_alpha for component in frame.format.components)
    picture = frame.to_ndarray(format="rgba" if see_through else "rgb24")
    if see_through:
        picture = over_white(picture)
    return np.ascontiguousarray(np.rot90(picture, frame.rotation // 90))


def over_white(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] RGBA composited over white: uint8 [H, W, 3]."""
    weight = picture[..., 3:].astype(np.uint16)
    over = picture[..., :3] * weight + 255 * (255 - weight)
    return ((over + 127) // 255).astype(np.uint8)


def encode_png(picture: np.ndarray, compression: int = 1) -> bytes:
    """A picture as a PNG file.

    Args:
        picture: uint8 [H, W, 3] RGB or [H, W, 4] RGBA.
        compression: 0 (none) to 9 (slow and small).

    Raises:
        ValueError: another dtype or shape, or no pixels.

    Example:
        >>> encode_png(np.zeros((2, 2, 3), np.uint8))[1:4]
        b'PNG'
    """
    import av

    good = picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] in (3, 4) and picture.size
    if not good:
        raise ValueError(
            "picture: expected uint8 [H, W, 3] or [H, W, 4] with at least one pixel, "
            f"got {picture.dtype} {list(picture.shape)}"
        )
    height, width, channels = picture.shape
    layout = "rgba" if channels == 4 else "rgb24"
    codec: Any = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, layout, Fraction(1)
    # Each row as its difference from the one above: as small as the encoder's slower choices, or nearly.
    codec.options = {"compression_level": str(compression), "pred": "up"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=layout)
    try:
        return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    except av.FFmpegError as error:
        raise ValueError(f"picture: PNG can't hold {list(picture.shape)}") from error


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Writes a picture as a PNG file, whole or not at all.

    Args:
        path: the file; its folder is made where it is not there yet.
        picture: uint8 [H, W, 3] RGB or [H, W, 4] RGBA.

    Raises:
        ValueError: another dtype or shape, or no pixels.
        FileProblem: the file can't be written, or the disk is full.
    """
    data = encode_png(picture)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _shares(count: int, wanted: int) -> np.ndarray:
    """[wanted, count] float32: what each sample of a line has in each of the wanted ones, by area."""
    edges = np.linspace(0, count, wanted + 1)
    low, high = edges[:-1, None], edges[1:, None]
    cells = np.arange(count)
    overlap = np.minimum(high, cells + 1) - np.maximum(low, cells)
    return (overlap.clip(0) * (wanted / count)).astype(np.float32)


def shrink(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture with fewer pixels, each the mean of the area that it covers.

    Args:
        picture: uint8 [H, W, C].
        height, width: 1 to H and 1 to W.

    Returns:
        uint8 [height, width, C].

    Raises:
        ValueError: a larger size.
    """
    h, w, channels = picture.shape
    if not (0 < height <= h and 0 < width <= w):
        raise ValueError(f"size: expected 1x1 to {h}x{w} (height x width), got {height}x{width}")
    rows = _shares(h, height) @ picture.reshape(h, -1).astype(np.float32)
    made = _shares(w, width) @ rows.reshape(height, w, channels)
    return np.asarray((made + 0.5).astype(np.uint8))


def fill_hidden(picture: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Fills hidden pixels smoothly from what surrounds them (push-pull over a pyramid).

    Args:
        picture: uint8 [H, W, 3].
        hidden: bool [H, W]; where all is hidden, the picture becomes gray.

    Returns:
        uint8 [H, W, 3]; what is not hidden stays as it is.
    """
    import cv2

    if not hidden.any():
        return picture
    if hidden.all():
        return np.full_like(picture, 127)
    levels: list[tuple[np.ndarray, np.ndarray]] = [(picture.astype(np.float32), (~hidden).astype(np.float32))]
    while min(levels[-1][1].shape) > 1 and not levels[-1][1].all():
        colour, weight = levels[-1]
        size = (max(1, (weight.shape[1] + 1) // 2), max(1, (weight.shape[0] + 1) // 2))
        small: np.ndarray = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        sums = cv2.resize(colour * weight[..., None], size, interpolation=cv2.INTER_AREA)
        levels.append((sums / np.maximum(small, 1e-6)[..., None], (small > 0).astype(np.float32)))
    colour = levels[-1][0]
    for fine, weight in reversed(levels[:-1]):
        up = cv2.resize(colour, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        colour = fine * weight[..., None] + cv2.GaussianBlur(up, (0, 0), 1.0) * (1 - weight[..., None])
    return np.where(hidden[..., None], np.clip(colour + 0.5, 0, 255).astype(np.uint8), picture)
