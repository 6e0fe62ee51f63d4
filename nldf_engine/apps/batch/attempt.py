"""One attempt at a task: its process is started, waited for, and what came of it is said."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nldf_engine.apps.batch.tasks import Task
from nldf_engine.base.files import make_folder
from nldf_engine.base.signals import HANG_UP

# How long a process that is asked to end may take: a training writes its checkpoint.
LEAVING_SECONDS = 60.0
LOOKED_SECONDS = 0.2
# Of the end of a log, in which the last line says what went wrong.
LOG_END = 4096
BEGINS = "--- attempt on "


@dataclass(frozen=True)
class Outcome:
    """What came of a task.

    Args:
        name: the task's.
        state: "done", "failed" (it says itself why), "crashed" (its process or machine was lost), "kept"
            (done by an earlier batch) or "left out" (something that it needs is not done).
        seconds: of its last attempt.
        host: that did it.
        attempts: how often it was started.
        message: what went wrong, in a line.
    """

    name: str
    state: str
    seconds: float = 0.0
    host: str = ""
    attempts: int = 0
    message: str = ""


class Workers(Protocol):
    """What runs tasks: processes here, or a cluster. Used in a `with` block, which ends what still runs."""

    def __enter__(self) -> Workers:
        """Gets ready."""
        ...

    def __exit__(self, *error: object) -> None:
        """Ends what still runs."""
        ...

    def start(self, task: Task) -> None:
        """Starts a task as soon as there is room; does not wait for it."""
        ...

    def ended(self, seconds: float) -> list[Outcome]:
        """The outcomes of tasks that have ended since; waits at most so long for one."""
        ...


def attempt(task: Task, environment: Mapping[str, str], stop: threading.Event | None = None) -> Outcome:
    """Starts the process of a task and waits for it.

    Args:
        task: what to do.
        environment: variables in addition to this process' own.
        stop: ends the process once it is set.
    """
    begun = time.monotonic()
    make_folder(task.log.parent)
    with open(task.log, "a", encoding="utf-8") as log:
        log.write(f"{BEGINS}{platform.node()}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        log.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", *task.program], cwd=task.folder, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip
        try:
            while (code := _waited(process)) is None:
                if stop is not None and stop.is_set():
                    end(process)
        except BaseException:
            end(process)
            raise
    seconds, text = time.monotonic() - begun, _end_of(task.log)
    state, message = "done", ""
    if code < 0:
        state, message = "crashed", f"its process was ended by {signal.Signals(-code).name}"
    elif code in {128 + each for each in (signal.SIGTERM, HANG_UP, signal.SIGINT) if each is not None}:
        state, message = "crashed", "its process was asked to end"
    elif code:
        state, message = "failed", text or f"exit code {code}"
    return Outcome(task.name, state, round(seconds, 2), platform.node(), _attempts(task.log), message)


def _waited(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(LOOKED_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def end(process: subprocess.Popen[bytes]) -> None:
    """Asks a process to end, and ends it where it does not."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(LEAVING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_of(log: Path) -> str:
    """The last line that says something."""
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - LOG_END))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _attempts(log: Path) -> int:
    with open(log, encoding="utf-8", errors="replace") as stream:
        return sum(line.startswith(BEGINS) for line in stream)
