"""What a batch runs: tasks, a process each. A job is one task, or stretches of a render and their joining."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nldf_engine.apps.batch.jobs import Job
from nldf_engine.base.json import encode
from nldf_engine.base.results import key_of
from nldf_engine.engine.parts import Part

WORK = "nldf_engine.apps.batch.work"


@dataclass(frozen=True)
class Work:
    """What the process of a task does, as its one argument in JSON.

    Args:
        command, flags: of `nldf`.
        wait: seconds to wait for another process that has the output.
        part: the stretch to render into `file`; None for all of it.
        file: where a stretch goes.
        joined: files of stretches that are taken instead of rendering.
    """

    command: str
    flags: tuple[str, ...]
    wait: float = 60.0
    part: Part | None = None
    file: str = ""
    joined: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """One process of a batch.

    Args:
        name: a plain file name.
        program: arguments of `python -m`.
        folder: where it runs.
        log: file that gets what it prints.
        reads, writes: files and folders.
        needs: names of the tasks that end before it.
        job: whose task it is; "" for a stretch, which is nobody's result.
        figures: the file of its results, JSON.
        spent: files that are deleted when it is done.
    """

    name: str
    program: tuple[str, ...]
    folder: Path
    log: Path
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()
    job: str = ""
    figures: Path | None = None
    spent: tuple[Path, ...] = field(default=())

    def key(self) -> str:
        """Names the task with its inputs as they are now: done under another key, it is done no more."""
        return key_of(self.program, [_stamp(self.folder / path) for path in self.reads])

    def is_written(self) -> bool:
        """Whether all outputs are there."""
        return all((self.folder / path).exists() for path in self.writes)


def _stamp(path: Path) -> list[object]:
    """Size and time of a file, or of the files of a folder."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    stats = [(p.name, p.stat()) for p in files if p.is_file() and not p.name.startswith(".")]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def plan(jobs: Iterable[Job], folder: Path, stretch: float | None) -> list[Task]:
    """The tasks of jobs.

    Args:
        jobs: checked.
        folder: the batch's own, for logs, results and stretches.
        stretch: seconds of the stretches that longer renders are divided into; None divides none.
    """
    return [task for job in jobs for task in _tasks(job, folder.absolute(), stretch)]


def _tasks(job: Job, folder: Path, stretch: float | None) -> list[Task]:
    flags = [*job.flags, *(flag for flag in job.made.continues if flag not in job.flags)]
    figures = getattr(job.made, "json", None)
    if figures is None:
        figures = folder / "results" / f"{job.name}.json"
        flags.append(f"--json={figures}")
    divided = None if stretch is None or job.needs else job.made.divided
    count = 1 if stretch is None or divided is None else divided.parts(job.folder, stretch)
    names = [f"{job.name}.{number}" for number in range(count)] if count > 1 else []
    files = tuple(folder / "stretches" / f"{name}.mkv" for name in names)
    logs, tasks = folder / "logs", []
    for number, (name, file) in enumerate(zip(names, files, strict=True)):
        work = Work(job.command, tuple(flags), part=Part(number, count, stretch or 0.0), file=str(file))
        tasks.append(Task(name, _program(work), job.folder, logs / f"{name}.log", job.reads, (file,)))
    whole = Work(job.command, tuple(flags), joined=tuple(map(str, files)))
    tasks.append(
        Task(
            job.name,
            _program(whole),
            job.folder,
            logs / f"{job.name}.log",
            job.reads,
            job.writes,
            (*job.needs, *names),
            job.name,
            Path(figures),
            files,
        )
    )
    return tasks


def _program(work: Work) -> tuple[str, ...]:
    return WORK, json.dumps(encode(work))
