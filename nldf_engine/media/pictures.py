"""Reading picture files: whole, as RGB, and without what the image libraries print by themselves."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem

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


def read_picture(path: str | Path, mend: str) -> np.ndarray:
    """[H, W, 3] uint8 RGB of a picture file.

    Args:
        path: any picture that OpenCV reads.
        mend: what the person who gave it can do where it is none.

    Raises:
        FileProblem: the file is missing, empty, cut short or no picture.
    """
    import cv2

    path = Path(path)
    if path.is_dir():
        raise FileProblem(path, "it is a folder, and a picture was expected", mend)
    if not path.is_file():
        raise FileProblem(path, "there is no such picture", mend)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileProblem(path, f"it can't be read ({error.strerror})", mend) from error
    if not data:
        raise FileProblem(path, "it is empty (0 bytes)", mend)
    if data.startswith(_PNG) and _PNG_END not in data[-64:]:
        # OpenCV would fill what is missing with black.
        raise FileProblem(path, "it is cut short", mend)
    with quiet_libraries():
        try:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # more pixels than it is willing to decode, for one
            picture = None
    if picture is None:
        raise FileProblem(path, "it is no picture that can be read", mend)
    return np.ascontiguousarray(picture[..., ::-1])
