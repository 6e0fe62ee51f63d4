"""Arrays that need not stay in memory."""

from __future__ import annotations

import math
import mmap
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import IO

import numpy as np

LARGE = 1 << 30  # bytes, from which an array is kept in a file
LARGE_GROWN = 1 << 28  # the same of one that is read once or twice, from its beginning to its end
_GROWTH = 1 << 20  # rows by which it grows at least in memory
_RESERVED = 1 << 26  # bytes that it gets on the disk beyond those it needs


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


class Growing:
    """Rows float32 [N, C] that arrive in pieces: held once, and from some size on in a file (`roomy_bytes`).

    Args:
        large: bytes, from which they are in a file; LARGE_GROWN where None.

    Attributes:
        count: rows so far.
    """

    def __init__(self, large: int | None = None) -> None:
        self.count, self._columns = 0, 0
        self._large = LARGE_GROWN if large is None else large
        self._held = np.empty((0, 0), np.float32)
        self._file: IO[bytes] | None = None
        self._room = 0  # bytes that the file has on the disk

    def add(self, rows: np.ndarray) -> None:
        """Appends rows [n, C]."""
        if not self.count:
            self._columns = rows.shape[1]
        end = self.count + len(rows)
        size = 4 * end * self._columns
        if size >= self._large and self._reserved(size):
            assert self._file is not None
            self._file.write(np.ascontiguousarray(rows, np.float32).data)
        else:
            if end > len(self._held):
                # Moves pages instead of copying them, where the array is large.
                self._held.resize((end + max(_GROWTH, end // 8), self._columns), refcheck=False)
            self._held[self.count : end] = rows
        self.count = end

    def take(self) -> np.ndarray:
        """[N, C] float32 of all rows; nothing is added behind it."""
        if self._file is not None:
            self._file.flush()
            return np.memmap(self._file, np.float32, "r+", shape=(self.count, self._columns))
        self._held.resize((self.count, self._columns), refcheck=False)
        return self._held

    def _reserved(self, size: int) -> bool:
        """Whether the rows are in a file that has room for so many bytes."""
        if size <= self._room:
            return True
        try:
            file = self._file or tempfile.TemporaryFile(prefix="nldf-")  # noqa: SIM115
            os.posix_fallocate(file.fileno(), self._room, size + _RESERVED - self._room)
        except (OSError, AttributeError):
            self._large = sys.maxsize  # it stays in memory
            if self._file is not None:
                self._file.seek(0)
                read = np.frombuffer(self._file.read(4 * self.count * self._columns), np.float32)
                self._held, self._file = read.reshape(-1, self._columns).copy(), None
            return False
        if self._file is None:
            file.write(self._held[: self.count].data)
            self._file, self._held = file, np.empty((0, self._columns), np.float32)
        self._room = size + _RESERVED
        return True


def let_go(array: np.ndarray) -> None:
    """Drops from memory what was read of an array that is kept in a file; it is read again when needed."""
    mapped = getattr(array, "_mmap", None)
    # Of a copy on write its owner's changes would be dropped as well.
    if mapped is not None and getattr(array, "mode", None) != "c" and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
