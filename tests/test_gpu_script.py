"""bench/gpu.sh, the command for a machine with a GPU: what of it can be checked without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu import steps

ROOT = Path(__file__).resolve().parents[1]


def gpu(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gpu", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, env=os.environ | environment
    )


def test_script_is_a_script():
    """bash can read it, and an unknown argument is a usage error."""
    subprocess.run(["bash", "-n", "bench/gpu.sh"], cwd=ROOT, check=True)
    command = ["bash", "bench/gpu.sh", "--fast"]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "usage:" in done.stderr


@pytest.mark.parametrize(
    ("body", "code"),
    [("assert True", 0), ("assert False", 1), ("import pytest; pytest.skip('nothing here')", 1)],
)
def test_skipped_checks_are_failures(tmp_path, body, code):
    """Where a device is, a test that didn't run counts as failed, and one that passed doesn't."""
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    pytest_of_it = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / "test_it.py")
    # Without plugins pytest begins at once.
    done = gpu("pytest-must-run", *pytest_of_it, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == code, done.stdout


@pytest.fixture
def run(tmp_path, monkeypatch) -> steps.Run:
    """A run of 60 s whose files lie in the test's folder."""
    monkeypatch.setattr(steps, "STATE", tmp_path)
    return steps.Run(tmp_path, 60)


def recorded(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_a_step_that_hangs_is_stopped(run, tmp_path):
    """A step over its limit ends, with the processes that it started, and the next one runs."""
    started = tmp_path / "started"
    sleeper = f"sleep 300 & echo $! > {started}; wait"
    assert not run.step("hangs", 1, ["bash", "-c", sleeper])
    assert run.step("passes", 10, ["true"])
    assert not run.step("fails", 10, ["bash", "-c", "echo because; exit 3"])
    assert [(step["outcome"], step["detail"]) for step in recorded(tmp_path)] == [
        ("failed", "stopped after 1 s: "), ("passed", ""), ("failed", "exit code 3: because"),
    ]  # fmt: skip
    assert run.failed
    status = Path(f"/proc/{started.read_text().strip()}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_no_step_begins_behind_the_limit(run, tmp_path):
    """Once the run's seconds are used up, steps are recorded as not run, and that is no failure."""
    run.limit = 3
    assert not run.step("late", 10, ["true"])
    (step,) = recorded(tmp_path)
    assert step["outcome"] == "not run" and "3 seconds are used up" in str(step["detail"]) and not run.failed


def test_report_keeps_what_was_measured(tmp_path):
    """Half a state makes a whole report: steps, benches, and no figure where a file was cut short."""
    steps = [
        {"step": "build", "outcome": "passed", "seconds": 3, "detail": ""},
        {"step": "ncu", "outcome": "not run", "seconds": 0, "detail": "no ncu"},
    ]
    (tmp_path / "steps.jsonl").write_text("\n".join(map(json.dumps, steps)) + "\n")
    (tmp_path / "matmul_before.json").write_text('{"float16_tflops": 700.0}')
    (tmp_path / "matmul_after.json").write_text('{"float16_tf')
    row = {"suite": "beams", "case": "forward", "name": "peer", "kind": "absent", "note": "not installed"}
    info = {"threads": 2, "rows": [row]}
    bench = {"benchmarks": [{"name": "test_forward[cuda-64]", "params": {}, "extra_info": info}]}
    (tmp_path / "bench_bench_beams.json").write_text(json.dumps(bench))
    done = gpu("merge", tmp_path, tmp_path / "results.json")
    assert done.returncode == 0 and "not run: 1 of 2" in done.stdout and "no ncu" in done.stdout
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["steps"] == steps and report["environment"] is None
    assert report["matmul"] == {"before": {"float16_tflops": 700.0}, "after": None}
    assert report["suites"]["beams"] == [{"name": "test_forward[cuda-64]", "params": {}, **info}]
    assert "not run: not installed" in (tmp_path / "bench.html").read_text()


def test_small_calls_run():
    """What the sanitiser watches runs, here on the CPU, and names the operations it leaves out."""
    done = gpu("small", "9", "cpu")
    assert done.returncode == 0 and "not called:" in done.stdout, done.stderr
