"""Files that are held by an open handle: whether whoever made them is still alive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Elsewhere an open file can't be removed.
POSIX = fcntl is not None
_BEYOND = 1 << 30  # the byte that Windows locks: what a locked one would hide must be read


def claim(handle: int) -> None:
    """Locks an open file for this handle, until it is closed or the process ends, however it does.

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


def open_held(path: Path) -> int:
    """A handle of a file, which is made if need be, for `claim`.

    Locks of files reach between machines on a network's file system, where those of folders don't.

    Raises:
        OSError: it can't be opened, is a link, or another user's.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    user = getattr(os, "geteuid", None)
    if user is not None and os.fstat(handle).st_uid != user():
        os.close(handle)
        raise PermissionError(f"{path} is another user's")
    return handle


def hidden_name(path: Path, ending: str) -> str:
    """A hidden name beside `path`, with an ending; cut, since names have room for 255 bytes."""
    return os.fsencode(f".{path.name}")[:200].decode("utf-8", "ignore") + ending


def is_there(path: Path, handle: int) -> bool:
    """Whether what is open is still what has that name."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False
