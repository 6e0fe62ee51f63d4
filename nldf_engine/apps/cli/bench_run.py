"""Running benchmark suites in an interpreter of their own, and reading the events that they report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nldf_engine.base.progress import Bar

POLL_SECONDS = 0.1
STOP_SECONDS = 10


@dataclass
class Suite:
    """What became of a suite: `outcome` is "passed", "failed", "skipped" or "not run"."""

    outcome: str = "not run"
    problems: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def took(self, event: dict[str, Any]) -> None:
        """Notes the end of a case."""
        what = {"case": event["case"], "detail": event["detail"]}
        if event["outcome"] == "failed":
            self.problems.append(what)
            self.outcome = "failed"
        elif event["outcome"] == "skipped":
            self.skipped.append(what)
            self.outcome = "skipped" if self.outcome == "not run" else self.outcome
        elif self.outcome != "failed":
            self.outcome = "passed"


@dataclass
class Figures:
    """All that a run found; `to_json` is what `nldf bench --json` writes.

    Args:
        pace: "quick", "normal" or "full".
        environment: the machine and the versions, as the suites saw them.
        suites: by name, in the order in which they ran.
        seconds: that the run took.
    """

    pace: str
    environment: dict[str, Any] = field(default_factory=dict)
    suites: dict[str, Suite] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failed(self) -> list[str]:
        """The names of the suites that failed or never ran."""
        return [name for name, suite in self.suites.items() if suite.outcome in ("failed", "not run")]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of all suites."""
        return [row for suite in self.suites.values() for row in suite.rows]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "schema": 1,
            "pace": self.pace,
            "seconds": round(self.seconds, 1),
            "environment": self.environment,
            "suites": {name: vars(suite) for name, suite in self.suites.items()},
        }


class _Reader:
    """Reads the events that the suites append to a file, and keeps the figures and the bar."""

    def __init__(self, path: Path, figures: Figures, bar: Bar) -> None:
        self._path, self._figures, self._bar = path, figures, bar
        self._offset = 0
        self.running: tuple[str, str] | None = None

    def read(self) -> None:
        """Takes the events since the last call; a line that is still being written waits."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        kind, figures = event["event"], self._figures
        if kind == "begin":
            figures.environment = event["environment"] | {
                "load": figures.environment.get("load", event["environment"]["load"])
            }
            self._bar.total = self._bar.done + event["total"]
        elif kind == "start":
            self.running = event["suite"], event["case"]
            self._bar.step(0, note=f"{event['suite']}: {event['case']}")
        elif kind == "rows":
            for row in event["rows"]:
                figures.suites[row["suite"]].rows.append(row)
        elif kind == "done":
            figures.suites[event["suite"]].took(event)
            self.running = None
            self._bar.step()
        elif kind == "end":
            figures.environment["load_after"] = event["load"]


def run_suites(files: Sequence[Path], pace: str = "normal") -> Figures:
    """Runs suites, one process for all; where a suite ends it, the rest run in another.

    Args:
        files: `bench_<name>.py`, all in one folder, with a conftest.py that reports its events.
        pace: "quick", "normal" or "full".

    Returns:
        what they found; a suite that failed says why.

    Raises:
        KeyboardInterrupt: Ctrl-C; the suites' process is ended first.
    """
    names = [file.stem.removeprefix("bench_") for file in files]
    figures = Figures(pace, suites={name: Suite() for name in names})
    start = time.monotonic()
    left = list(files)
    with tempfile.TemporaryDirectory() as folder, Bar("bench", None, "case") as bar:
        attempt = 0
        while left:
            attempt += 1
            reader = _Reader(Path(folder) / f"events_{attempt}", figures, bar)
            code, said = _pytest(left, pace, reader, Path(folder))
            ended = [i for i, file in enumerate(left) if _name(file) == (reader.running or ("",))[0]]
            if not ended:
                for file in left:
                    if figures.suites[_name(file)].outcome == "not run" and code not in (0, 1, 5):
                        figures.suites[_name(file)].took(
                            _failure("import", f"pytest ended with {code}: {said}")
                        )
                break
            broken, case = reader.running or ("", "")
            figures.suites[broken].took(_failure(case, f"its process ended with {code}: {said}"))
            left = left[ended[0] + 1 :]
    figures.seconds = time.monotonic() - start
    for suite in figures.suites.values():  # nothing of it was chosen at this pace, or on this machine
        suite.outcome = "skipped" if suite.outcome == "not run" else suite.outcome
    return figures


def _name(file: Path) -> str:
    return file.stem.removeprefix("bench_")


def _failure(case: str, detail: str) -> dict[str, Any]:
    return {"case": case, "outcome": "failed", "detail": detail}


def _pytest(files: Sequence[Path], pace: str, reader: _Reader, folder: Path) -> tuple[int, str]:
    """Runs pytest on the files; returns its exit code and the last line that it said."""
    root = files[0].resolve().parent.parent
    log = folder / "log"
    command = [
        *(sys.executable, "-m", "pytest", *map(str, files), "--pace", pace, "-q", "--benchmark-disable-gc"),
        *("--continue-on-collection-errors", "-p", "no:cacheprovider", "-o", "timeout=0"),
        *("-o", "addopts=--import-mode=importlib"),
        *("-o", "python_files=bench_*.py", "--rootdir", str(root)),
    ]
    # In a worker of a parallel test run pytest-benchmark would measure nothing; the environment says so.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment = own | {"NLDF_BENCH_EVENTS": str(reader._path), "PYTHONUNBUFFERED": "1"}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                reader.read()
                time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    reader.read()
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return process.returncode, lines[-1][:300] if lines else "it said nothing"
