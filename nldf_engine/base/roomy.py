"""Arrays that need not stay in memory."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence

import numpy as np

LARGE = 1 << 30  # bytes, from which an array is kept in a file


def roomy_bytes(shape: Sequence[int], large: int = LARGE) -> np.ndarray:
    """An array uint8 of zeros, for bytes that are written once, or never, and read here and there.

    From `large` bytes on it is a map of a file without a name, in the system's folder of temporary files
    (`TMPDIR`): under pressure the system drops pages of it from memory, and reads them again. Where there is
    no room on the disk, or the system can't reserve it, it is an array in memory.
    """
    size = math.prod(shape)
    if size >= large and hasattr(os, "posix_fallocate"):
        try:
            with tempfile.TemporaryFile(prefix="nldf-") as file:
                os.posix_fallocate(file.fileno(), 0, size)  # else a full disk would end the process later on
                return np.memmap(file, np.uint8, "r+", shape=tuple(shape))
        except OSError:
            pass
    return np.zeros(shape, np.uint8)
