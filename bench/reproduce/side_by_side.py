"""Trainings side by side: each cell a task of a batch, by processes here or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.reproduce.cells import Cell
from bench.reproduce.lab import Lab, with_needed
from bench.reproduce.trials import Trial
from nldf_engine.apps.batch.attempt import Workers
from nldf_engine.apps.batch.run import run_tasks
from nldf_engine.apps.batch.tasks import Task
from nldf_engine.base.errors import NldfError


def tasks_of(lab: Lab, cells: Sequence[Cell | Trial], arguments: Sequence[str]) -> list[Task]:
    """A task for each cell that is not trained yet; it waits for the teacher or base that it begins with.

    Args:
        lab: of the cells.
        cells: what they need is added.
        arguments: of `python -m bench.reproduce`, under which one of them is to be trained.
    """
    waiting = [cell for cell in with_needed(cells) if lab.record(cell) is None]
    names = {cell.name(lab.hash) for cell in waiting}
    folder = lab.folder.absolute() / "batch"
    logs = folder / "logs"
    return [
        Task(
            name, ("bench.reproduce", *arguments, "--cell", name), Path.cwd(), logs / f"{name}.log",
            writes=(lab.place(cell).absolute() / "cell.json",), job=name,
            needs=tuple(one.name(lab.hash) for one in cell.needs if one.name(lab.hash) in names),
        )
        for cell in waiting
        for name in [cell.name(lab.hash)]
    ]  # fmt: skip


def train_side_by_side(
    lab: Lab, cells: Sequence[Cell | Trial], arguments: Sequence[str], workers: Workers
) -> None:
    """Trains the cells that are not trained yet.

    Raises:
        NldfError: some could not be trained; the others are.
    """
    tasks = tasks_of(lab, cells, arguments)
    if not tasks:
        return
    for cell in with_needed(cells):  # what several cells read is made once, and not by each at the same time
        if isinstance(cell, Cell):
            lab.speakers(cell)
    report = run_tasks(tasks, workers, lab.folder / "batch")
    missing = [line for line in report.lines()[:-1] if "  done" not in line]
    if missing:
        raise NldfError(
            f"{len(missing)} of {len(tasks)} trainings are not done: {missing[0]}. To fix it: see "
            f"{lab.folder / 'batch' / 'logs'}; the same command again trains these alone."
        )
