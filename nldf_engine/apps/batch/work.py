"""The process of a task: `python -m nldf_engine.apps.batch.work JSON` does one job, or a stretch of one.

It ends with the exit code of the command. What it writes is owned while it does: a process of an earlier
attempt, which may be about to end on the machine that was lost, is waited for.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from nldf_engine.apps.batch.tasks import Work
from nldf_engine.apps.cli.command import Command
from nldf_engine.apps.cli.main import guarded, parse
from nldf_engine.base.json import decode
from nldf_engine.base.lock import owned

PR_SET_PDEATHSIG = 1  # of Linux' prctl


def end_with_parent() -> None:
    """Makes the system end this process when the one that started it ends, however it does (Linux alone)."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has ended meanwhile
            os.kill(os.getpid(), signal.SIGTERM)


def do(work: Work) -> int:
    """Does the work; returns the exit code."""
    module = importlib.import_module(f"nldf_engine.apps.cli.commands.{work.command}")
    kind: type[Command] = getattr(module, work.command.capitalize())
    command = parse(kind, work.command, work.flags)
    divided = command.divided
    if divided is not None and work.part is not None:
        with owned(work.file, wait=work.wait):
            return divided.run_part(work.part, Path(work.file))
    command.check_paths()
    with owned(*command.outputs(), wait=work.wait):
        if divided is not None and work.joined:
            return divided.join([Path(path) for path in work.joined])
        return command.run()


def main(argument: str) -> NoReturn:
    """Does the work that JSON says, and ends with its exit code."""
    end_with_parent()
    work = decode(Work, json.loads(argument), "work")
    sys.exit(guarded(f"nldf {work.command}", lambda: do(work), lambda: "it can be started again"))


if __name__ == "__main__":
    main(sys.argv[1])
