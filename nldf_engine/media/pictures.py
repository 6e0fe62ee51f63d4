"""Pictures: read from files whole, as RGB, and written whole or not at all; holes filled."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_path

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Nothing that C code writes to stderr inside the block is seen.

    libpng and OpenCV complain there of a damaged picture, beside the one line that we say about it. They
    write to the descriptor, past `sys.stderr`.
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
        path: any picture that OpenCV reads.
        remedy: what the person who gave it can do where it is none.

    Raises:
        FileProblem: the file is missing, empty, cut short or no picture.
    """
    import cv2

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
    if data.startswith(_PNG) and _PNG_END not in data[-64:]:
        # OpenCV would fill what is missing with black.
        raise FileProblem(path, "it is cut short", remedy)
    with quiet_libraries():
        try:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # more pixels than it is willing to decode, for one
            picture = None
    if picture is None:
        raise FileProblem(path, "it is no picture that can be read", remedy)
    return np.ascontiguousarray(picture[..., ::-1])


def encode_png(picture: np.ndarray, compression: int | None = None) -> bytes:
    """A picture as a PNG file.

    Args:
        picture: uint8 [H, W, 3] RGB or [H, W, 4] RGBA.
        compression: 0 (none) to 9 (slow and small); OpenCV's own choice where None.

    Raises:
        ValueError: another dtype or shape, or no pixels.

    Example:
        >>> encode_png(np.zeros((2, 2, 3), np.uint8))[1:4]
        b'PNG'
    """
    import cv2

    good = picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] in (3, 4) and picture.size
    if not good:
        raise ValueError(
            "picture: expected uint8 [H, W, 3] or [H, W, 4] with at least one pixel, "
            f"got {picture.dtype} {list(picture.shape)}"
        )
    order = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    settings = [] if compression is None else [cv2.IMWRITE_PNG_COMPRESSION, compression]
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, order), settings)
    if not done:
        raise ValueError(f"picture: PNG can't hold {list(picture.shape)}")
    return bytes(data.tobytes())


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
