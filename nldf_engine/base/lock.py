"""Who writes an output: one process at a time, and the others are told which."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from nldf_engine.base.claims import POSIX, claim, hidden_name, is_there
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import check_writable, make_folder

# Never through a link: what is behind it would be emptied. Windows has neither flag; it makes no handle that
# a child inherits, and its links take a privilege.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
# Between two looks at a lock that is waited for.
WAITING_SECONDS = 0.2
_held: dict[Path, int] = {}  # how often this process has each lock


@contextlib.contextmanager
def owned(*paths: str | Path, wait: float = 0.0) -> Iterator[None]:
    """Inside the block no other process that asks for one of the same outputs gets it.

    The lock is the file `.NAME.lock` beside the output, which says who holds it. The system gives it up when
    the process ends, however it ends; one that a killed process has left behind holds nobody up. The same
    process may enter several times.

    Args:
        paths: the outputs.
        wait: seconds to wait for another process that has one of them.

    Raises:
        FileProblem: another process writes there; or an output's folder can't be made or written to.
    """
    with contextlib.ExitStack() as stack:
        for path in sorted({Path(os.path.realpath(path)) for path in paths}):
            stack.enter_context(_one(path, wait))
        yield


@contextlib.contextmanager
def _one(path: Path, wait: float) -> Iterator[None]:
    if path in _held:
        _held[path] += 1
        try:
            yield
        finally:
            _held[path] -= 1
        return
    check_writable(path, folder=path.is_dir())
    made = [above for above in path.parents if not above.exists()]
    make_folder(path.parent)
    lock = path.with_name(hidden_name(path, ".lock"))
    handle = _taken(lock, path, time.monotonic() + wait)
    _held[path] = 1
    try:
        yield
    finally:
        del _held[path]
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(handle)
        if not POSIX:  # there no open file is removed
            with contextlib.suppress(OSError):
                lock.unlink()
        for above in made:  # folders that were made for nothing
            with contextlib.suppress(OSError):
                above.rmdir()


def _taken(lock: Path, path: Path, until: float) -> int:
    """The open and locked file; another process is waited for until that time of the monotonic clock."""
    while True:
        try:
            handle = os.open(lock, _FLAGS, 0o644)
        except OSError as error:
            what = f"it can't be written ({error.strerror})"
            raise FileProblem(path, what, "choose an output path that you may write to") from error
        try:
            claim(handle)
        except BlockingIOError:
            who = os.read(handle, 1000).decode("utf-8", "replace").strip() or "another process"
            os.close(handle)
            if time.monotonic() < until:
                time.sleep(WAITING_SECONDS)
                continue
            raise FileProblem(
                path, f"{who} writes there", "wait for its end, or choose another output path"
            ) from None
        except OSError:  # a file system without locks: nothing can be said
            return handle
        if is_there(lock, handle):
            _sign(handle)
            return handle
        os.close(handle)  # its holder has just ended, and removed it: once more


def _sign(handle: int) -> None:
    """Writes who holds the lock; on a full disk it is held without a name."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    command = " ".join([name, *sys.argv[1:2]])
    text = f"process {os.getpid()} ({command}, since {time.strftime('%H:%M:%S')})"
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, text.encode("utf-8", "replace"))
