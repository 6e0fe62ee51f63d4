"""Files and folders that are held by an open handle: whether whoever made them is still alive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# There an open file can't be removed, nor a folder be opened.
POSIX = fcntl is not None
_BEYOND = 1 << 30  # the byte that Windows locks: what a locked one would hide must be read


def claim(handle: int) -> None:
    """Locks an open file or folder for this handle, until it is closed or the process ends, however it does.

    Raises:
        BlockingIOError: another handle has it.
        OSError: the file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    windows: Any = msvcrt
    os.lseek(handle, _BEYOND, os.SEEK_SET)
    try:
        windows.locking(handle, windows.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(*error.args) from error
    finally:
        os.lseek(handle, 0, os.SEEK_SET)


def open_folder(path: Path, own: bool) -> int:
    """A handle of a folder, for `claim`.

    Args:
        path: of it, which is no link.
        own: whether any other user's is refused.

    Raises:
        OSError: it can't be opened, or is another user's.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0))
    user = getattr(os, "geteuid", None)
    if own and user is not None and os.fstat(handle).st_uid != user():
        os.close(handle)
        raise PermissionError(f"{path} is another user's")
    return handle


def is_there(path: Path, handle: int) -> bool:
    """Whether what is open is still what has that name."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False
