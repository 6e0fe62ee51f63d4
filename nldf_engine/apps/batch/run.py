"""The course of a batch: tasks in the order that they need each other, what is done, and the report.

The batch's folder has

    state/TASK.json     what came of a task, and of which inputs
    logs/TASK.log       what its attempts printed
    results/JOB.json    a job's results, as its --json writes them
    stretches/          of renders that are not joined yet
    report.json         of the whole batch
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nldf_engine.apps.batch.attempt import Outcome, Workers
from nldf_engine.apps.batch.tasks import Task
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import read_json, write_json
from nldf_engine.base.progress import Bar

GOOD = ("done", "kept")
# Between two looks at the workers, during which the progress bar stands still.
LOOKED_SECONDS = 1.0


@dataclass(frozen=True)
class Report:
    """What came of a batch.

    Args:
        outcomes: of the tasks, those of stretches included.
        jobs: names of the tasks that are a job's result.
        seconds: of the batch, this time.
        figures: results of the jobs that are done, by job.
    """

    outcomes: dict[str, Outcome]
    jobs: tuple[str, ...]
    seconds: float
    figures: dict[str, Any]

    def count(self, *states: str) -> int:
        """How many jobs are in one of these states."""
        return sum(self.outcomes[name].state in states for name in self.jobs)

    def lines(self) -> list[str]:
        """A line a job, and one of them all."""
        width = max(map(len, self.jobs))
        shown = []
        for name in self.jobs:
            one = self.outcomes[name]
            parts = [f"{name:<{width}}", one.state]
            parts += [f"{one.seconds:.1f} s"] * bool(one.seconds)
            parts += [f"{one.attempts} attempts"] * (one.attempts > 1)
            shown.append("  ".join([*parts, *([one.message] if one.message else [])]))
        spent = sum(one.seconds for one in self.outcomes.values() if one.state == "done")
        at_once = f", {spent / self.seconds:.1f} tasks at a time" if spent else ""
        shown.append(
            f"{len(self.jobs)} jobs: {self.count('done')} done, {self.count('kept')} done before, "
            f"{self.count('failed', 'crashed')} failed, {self.count('left out')} left out, in "
            f"{self.seconds:.1f} s{at_once}"
        )
        return shown

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        jobs = {
            name: {**asdict(self.outcomes[name]), "results": self.figures.get(name)} for name in self.jobs
        }
        stretches = {name: asdict(one) for name, one in self.outcomes.items() if name not in self.jobs}
        return {"seconds": round(self.seconds, 2), "jobs": jobs, "stretches": stretches}


class Record:
    """What is done, by task: a file each, so that a batch that is stopped at any moment loses nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_done(self, task: Task, key: str) -> bool:
        """Whether an earlier batch has done the task, of the same inputs, and its outputs are still there."""
        path = self._folder / f"{task.name}.json"
        try:
            found = read_json(path) if path.is_file() else {}
        except FileProblem:
            return False
        return isinstance(found, dict) and found.get("key") == key and task.is_written()

    def keep(self, task: Task, key: str, outcome: Outcome) -> None:
        """Remembers that the task is done."""
        write_json(self._folder / f"{task.name}.json", {"key": key, **asdict(outcome)})


class _Batch:
    """The tasks of a batch on their way."""

    def __init__(self, tasks: Sequence[Task], workers: Workers, folder: Path) -> None:
        self.waiting = {task.name: task for task in tasks}
        self.running: dict[str, tuple[Task, str]] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._workers, self._record = workers, Record(folder / "state")
        joined = [task for task in tasks if task.spent]
        # What is joined already needs its stretches no more.
        for task in joined:
            if self._record.is_done(task, task.key()):
                for name in (name for name in task.needs if not self.waiting[name].job):
                    self._end(self.waiting[name], Outcome(name, "kept"))

    def start_ready(self) -> None:
        """Starts every task whose needs are done, and leaves out those whose needs never will be."""
        moved = True
        while moved:
            moved = False
            for task in list(self.waiting.values()):
                states = [self.outcomes[name].state for name in task.needs if name in self.outcomes]
                bad = next((n for n in task.needs if n in self.outcomes and not self._good(n)), None)
                if bad is not None:
                    self._end(task, Outcome(task.name, "left out", message=f"it needs {bad}"))
                    moved = True
                elif len(states) == len(task.needs):
                    self._start(task)
                    moved = True

    def _good(self, name: str) -> bool:
        return self.outcomes[name].state in GOOD

    def _start(self, task: Task) -> None:
        key = task.key()
        if self._record.is_done(task, key):
            self._end(task, Outcome(task.name, "kept"))
            return
        task.log.unlink(missing_ok=True)
        del self.waiting[task.name]
        self.running[task.name] = task, key
        self._workers.start(task)

    def _end(self, task: Task, outcome: Outcome) -> None:
        self.waiting.pop(task.name, None)
        self.outcomes[task.name] = outcome

    def follow(self) -> int:
        """Takes outcomes of tasks that have ended; returns of how many."""
        ended = self._workers.ended(LOOKED_SECONDS)
        for outcome in ended:
            task, key = self.running.pop(outcome.name)
            if outcome.state == "done":
                self._record.keep(task, key, outcome)
                for path in task.spent:
                    path.unlink(missing_ok=True)
            self._end(task, outcome)
        return len(ended)

    @property
    def note(self) -> str:
        """For the progress bar."""
        failed = sum(outcome.state not in GOOD for outcome in self.outcomes.values())
        return f"{len(self.running)} running" + f", {failed} failed" * bool(failed)


def run_tasks(tasks: Sequence[Task], workers: Workers, folder: Path) -> Report:
    """Runs the tasks that are not done yet; one that fails does not stop the others.

    The report is written to `folder/report.json`, also when the batch is stopped.

    Args:
        tasks: with different names; those that a task needs are among them.
        workers: what runs them.
        folder: the batch's.

    Raises:
        FileProblem: the folder can't be written.
    """
    begun = time.monotonic()
    batch = _Batch(tasks, workers, folder)
    try:
        with Bar("batch", len(tasks), "task") as bar, workers:
            batch.start_ready()
            bar.start_at(len(batch.outcomes))
            while batch.running:
                before = len(batch.outcomes)
                if batch.follow():
                    batch.start_ready()
                bar.step(len(batch.outcomes) - before, note=batch.note)
    finally:
        left = {name: Outcome(name, "left out", message="the batch was stopped") for name in batch.waiting}
        left |= {name: Outcome(name, "left out", message="it was stopped") for name in batch.running}
        jobs = tuple(task.job for task in tasks if task.job)
        outcomes = {**left, **batch.outcomes}
        figures = {
            task.job: read_json(task.folder / task.figures)
            for task in tasks
            if task.job and outcomes[task.job].state in GOOD and task.figures is not None
            and (task.folder / task.figures).is_file()
        }  # fmt: skip
        report = Report(outcomes, jobs, time.monotonic() - begun, figures)
        write_json(folder / "report.json", report.to_json())
    return report
