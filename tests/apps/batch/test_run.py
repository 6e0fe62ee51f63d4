"""The course of a batch, by workers that need no process: order, failures, resumption, report."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nldf_engine.apps.batch.attempt import Outcome, attempt
from nldf_engine.apps.batch.processes import Processes
from nldf_engine.apps.batch.run import run_tasks
from nldf_engine.apps.batch.tasks import Task


class Hands:
    """Workers that do every task at once, in this process."""

    def __init__(self, work: Callable[[Task], str]) -> None:
        self.work, self.done, self._ended = work, [], []

    def __enter__(self) -> Hands:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, task: Task) -> None:
        self.done.append(task.name)
        state = self.work(task)
        self._ended.append(Outcome(task.name, state, 0.1, "here", 1, "" if state == "done" else "it broke"))

    def ended(self, seconds: float) -> list[Outcome]:
        ended, self._ended = self._ended, []
        return ended


def write(task: Task) -> str:
    """Writes the outputs of a task."""
    for path in task.writes:
        (task.folder / path).parent.mkdir(exist_ok=True)
        (task.folder / path).write_text(task.name, encoding="utf-8")
    return "done"


def task_of(folder: Path, name: str, needs: tuple[str, ...] = (), **more: object) -> Task:
    reads = tuple(Path(f"{need}.out") for need in needs) or (Path("input"),)
    given = {"reads": reads, "writes": (Path(f"{name}.out"),), "needs": needs, "job": name, **more}
    return Task(name, ("none",), folder, folder / "logs" / f"{name}.log", **given)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "input").write_text("x", encoding="utf-8")
    return tmp_path


def test_a_failure_stops_none_but_those_that_need_it(place: Path) -> None:
    """The others run on; the report says of each what came of it."""
    tasks = [
        task_of(place, "c", ("b",)), task_of(place, "a"), task_of(place, "b", ("a",)), task_of(place, "bad"),
        task_of(place, "left", ("bad",)), task_of(place, "too", ("left",)),
    ]  # fmt: skip
    hands = Hands(lambda task: "failed" if task.name == "bad" else write(task))
    report = run_tasks(tasks, hands, place / "batch")
    assert hands.done.index("a") < hands.done.index("b") < hands.done.index("c")
    assert {name: one.state for name, one in report.outcomes.items()} == {
        "a": "done", "b": "done", "c": "done", "bad": "failed", "left": "left out", "too": "left out"
    }  # fmt: skip
    assert report.count("done") == 3 and report.lines()[-1].startswith(
        "6 jobs: 3 done, 0 done before, 1 failed"
    )
    written = json.loads((place / "batch" / "report.json").read_text(encoding="utf-8"))
    assert (
        written["jobs"]["bad"]["message"] == "it broke"
        and written["jobs"]["left"]["message"] == "it needs bad"
    )


def test_the_same_again_runs_what_is_not_done(place: Path) -> None:
    """What failed, what lost its output, and what reads a changed input, with what depends on it."""
    tasks = [task_of(place, "a"), task_of(place, "b", ("a",)), task_of(place, "bad"), task_of(place, "d")]
    run_tasks(tasks, Hands(lambda task: "failed" if task.name == "bad" else write(task)), place / "batch")
    again = Hands(write)
    assert run_tasks(tasks, again, place / "batch").count("kept") == 3 and again.done == ["bad"]
    (place / "d.out").unlink()
    again = Hands(write)
    run_tasks(tasks, again, place / "batch")
    assert again.done == ["d"]
    (place / "a.out").write_text("somebody else's", encoding="utf-8")
    again = Hands(write)
    run_tasks(tasks, again, place / "batch")
    assert again.done == ["b"]
    (place / "input").write_text("another", encoding="utf-8")
    again = Hands(write)
    run_tasks(tasks, again, place / "batch")
    assert set(again.done) == {"a", "b", "bad", "d"}
    (place / "batch" / "state" / "a.json").write_text("{", encoding="utf-8")
    again = Hands(write)
    run_tasks(tasks, again, place / "batch")
    assert "a" in again.done


def test_a_stopped_batch_has_a_report_and_goes_on(place: Path) -> None:
    """Ctrl-C in the middle: what is done is kept."""
    tasks = [task_of(place, name) for name in "abcd"]

    def stopping(task: Task) -> str:
        if task.name == "c":
            raise KeyboardInterrupt
        return write(task)

    class Slow(Hands):
        def start(self, task: Task) -> None:
            if task.name == "c":
                self._ended = [Outcome(name, "done", 0.1, "here", 1) for name in ("a", "b")]
            if task.name < "c":
                write(task)

        def ended(self, seconds: float) -> list[Outcome]:
            ended = super().ended(seconds)
            if not ended:
                raise KeyboardInterrupt
            return ended

    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, Slow(stopping), place / "batch")
    jobs = json.loads((place / "batch" / "report.json").read_text(encoding="utf-8"))["jobs"]
    assert [jobs[name]["state"] for name in "abcd"] == ["done", "done", "left out", "left out"]
    again = Hands(write)
    assert run_tasks(tasks, again, place / "batch").count("kept") == 2 and again.done == ["c", "d"]


def test_stretches_are_spent_once_they_are_joined(place: Path) -> None:
    """They are deleted then, and not rendered again for a clip that is done; else they stay."""
    files = [place / f"s{number}" for number in range(2)]
    parts = [task_of(place, f"long.{n}", job="", writes=(file,)) for n, file in enumerate(files)]
    whole = task_of(
        place, "long", ("long.0", "long.1"), reads=(Path("input"),), spent=tuple(files)
    )  # fmt: skip
    run_tasks([*parts, whole], Hands(lambda t: "failed" if t.name == "long" else write(t)), place / "batch")
    assert all(file.exists() for file in files)
    joining = Hands(write)
    report = run_tasks([*parts, whole], joining, place / "batch")
    assert joining.done == ["long"] and not any(file.exists() for file in files) and report.jobs == ("long",)
    again = Hands(write)
    assert run_tasks([*parts, whole], again, place / "batch").count("kept") == 1 and not again.done


PROGRAMS = {
    "fine": "print('hello')",
    "refused": "import sys; print('nldf render: a.wav: it is empty', file=sys.stderr); sys.exit(1)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "once": (
        "import os, pathlib, signal\n"
        "mark = pathlib.Path('mark')\n"
        "if not mark.exists():\n    mark.touch(); os.kill(os.getpid(), signal.SIGSEGV)\n"
    ),
    "long": "import time; print('begun', flush=True); time.sleep(60)",
    "shown": "import os; print(os.environ['OMP_NUM_THREADS'], os.environ.get('CUDA_VISIBLE_DEVICES'))",
}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name, text in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


def program(folder: Path, name: str) -> Task:
    return Task(name, (name,), folder, folder / "logs" / f"{name}.log", job=name)


def test_what_comes_of_a_process(programs: Path) -> None:
    """Exit code 0, a message of its own, and a signal from elsewhere."""
    fine, refused, killed = (attempt(program(programs, n), {}) for n in ("fine", "refused", "killed"))
    assert (fine.state, fine.message, fine.attempts) == ("done", "", 1)
    assert (refused.state, refused.message) == ("failed", "nldf render: a.wav: it is empty")
    assert (killed.state, killed.message) == ("crashed", "its process was ended by SIGKILL")


def test_crashes_are_tried_again_and_refusals_are_not(programs: Path) -> None:
    """As often as --retries says; the next attempt may do it."""
    tasks = [program(programs, name) for name in ("fine", "refused", "killed", "once")]
    report = run_tasks(tasks, Processes(2, 1, retries=2), programs / "batch")
    found = {name: (one.state, one.attempts) for name, one in report.outcomes.items()}
    assert found == {
        "fine": ("done", 1), "refused": ("failed", 1), "killed": ("crashed", 3), "once": ("done", 2)
    }  # fmt: skip


def test_processes_get_cores_and_gpus_of_their_own(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads as given; two GPUs for two at a time; only those that this process may use."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with Processes(threads=2) as workers:
        assert workers.workers == 2
        tasks = [program(programs, "shown")] * 4
        for number, task in enumerate(tasks):
            workers.start(Task(**{**vars(task), "name": str(number), "log": programs / f"{number}.log"}))
        left = 4
        while left:
            left -= len(workers.ended(10))
    shown = {(programs / f"{n}.log").read_text(encoding="utf-8").split("\n")[1] for n in range(4)}
    assert shown <= {"2 3", "2 5"} and shown


def test_leaving_ends_what_still_runs(programs: Path) -> None:
    """Ctrl-C waits for no job of an hour."""
    log = programs / "logs" / "long.log"
    began = time.monotonic()
    with Processes(1, 1) as workers:
        workers.start(program(programs, "long"))
        while not (log.is_file() and "begun" in log.read_text(encoding="utf-8")):
            time.sleep(0.05)
    assert time.monotonic() - began < 30 and threading.active_count() < 10


@pytest.mark.skipif(sys.platform != "linux", reason="by Linux' prctl")
def test_a_task_ends_with_what_started_it(tmp_path: Path) -> None:
    """A worker that is killed leaves no process behind that still writes."""
    import os
    import subprocess

    child = (
        "import os, time; from nldf_engine.apps.batch.work import end_with_parent; end_with_parent();"
        " print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    started = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    pid = int(started.stdout.readline())
    started.send_signal(signal.SIGKILL)
    started.wait()
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < until, os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
