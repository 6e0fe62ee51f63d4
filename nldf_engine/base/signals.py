"""Signals that ask a process to stop: Ctrl-C, an end from outside, and a terminal that has gone."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

# A closed terminal or a lost connection stops a process as politely as a scheduler does; Windows has no
# signal for it.
HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)
TERMINATING = (signal.SIGTERM,) if HANG_UP is None else (signal.SIGTERM, HANG_UP)


def send_nowhere(number: int) -> None:
    """Points a file descriptor to nothing: what is written there is lost without an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, number)
    os.close(nowhere)


def leave_terminal() -> None:
    """Points the standard streams that are a terminal to nothing: writing to one that has gone fails."""
    for number in range(3):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                send_nowhere(number)


@contextlib.contextmanager
def handling(numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside the block these signals call `handler`; a hang-up leaves the terminal first.

    Hang-ups that the process was started to ignore, as nohup does it, stay ignored. Outside of the main
    thread nothing changes: an embedding program keeps its own handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if number == HANG_UP:
            leave_terminal()
        handler(number, frame)

    before = {number: signal.getsignal(number) for number in numbers}
    for number, known in before.items():
        if number != HANG_UP or known is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)


class Unheard(io.TextIOWrapper):
    """A stream of text that may lose its reader (`nldf render ... | true`): what follows goes to nobody.

    A command's work is done all the same, and its exit code says how.
    """

    def write(self, text: str, /) -> int:
        """See `io.TextIOWrapper`."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """See `io.TextIOWrapper`."""
        try:
            super().flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        send_nowhere(self.fileno())
        super().flush()  # what is still held goes there


def open_streams() -> None:
    """Opens standard streams that are closed, on nothing, and makes stdout print any file's name, and to
    nobody where its reader has gone (`Unheard`).

    Else the first file that is opened would take the number of a closed one, and get what is printed. For a
    process of our own, before anything is printed: `sys.stdout` becomes another stream.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    out = sys.stdout
    # A file's name may be no UTF-8, and is printed as it is.
    if isinstance(out, io.TextIOWrapper) and out is sys.__stdout__:
        encoding, lines, through = out.encoding, out.line_buffering, out.write_through
        sys.stdout = Unheard(out.detach(), encoding, "surrogateescape", None, lines, through)
        sys.__stdout__ = sys.stdout  # type: ignore[misc]
    elif isinstance(out, io.TextIOWrapper):  # somebody else's
        out.reconfigure(errors="surrogateescape")
