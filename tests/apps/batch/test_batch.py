"""`nldf batch` with real renders: the files of one process after the other, beside a job that fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nldf_engine.apps.cli import main as cli
from nldf_engine.base.lock import owned


@pytest.mark.timeout(900)  # five processes in turn, each of which imports the package
def test_a_batch_makes_what_one_process_makes(
    folder: Path, job_file: Callable[..., Path], render: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In stretches, on another number of threads, to the byte; a job that can't be done does not stop them;
    again, it alone is tried."""
    flags = {"no-provenance": True}
    # A dataset that is none is noticed by the job alone: what it holds is checked when it is read.
    bad = {"name": "bad", "evaluate": {"paths": ["avatar", "avatar"], "output": "report"}}
    path = job_file([bad, render("out/long.mp4", **flags)])
    report = folder / "report.json"
    command = ["batch", str(path), "--workers", "1", "--threads", "2", "--json", str(report)]
    assert cli.main([*command, "--stretch", "0.4"]) == 1
    said = capsys.readouterr()
    assert "2 jobs: 1 done, 0 done before, 1 failed, 0 left out" in said.out
    assert said.err.splitlines()[-1].startswith(
        "nldf batch: 1 of 2 jobs are not done, bad the first of them."
    )
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["jobs"]["out-long.mp4"]["results"]["frames"] == 20 and len(found["stretches"]) == 2
    assert "avatar" in found["jobs"]["bad"]["message"]
    monkeypatch.chdir(folder)
    alone = ["render", "avatar", "a.wav", "-o", "alone.mp4", "--size", "24", "--no-provenance"]
    assert cli.main(alone) == 0
    assert (folder / "alone.mp4").read_bytes() == (folder / "out" / "long.mp4").read_bytes()
    assert cli.main([*command, "--stretch", "0.4"]) == 1
    assert "2 jobs: 0 done, 1 done before, 1 failed" in capsys.readouterr().out
    assert not list(folder.glob(".*")) and not list((folder / "jobs.batch" / "stretches").iterdir())


def test_two_batches_of_one_file_do_not_meet(
    folder: Path, job_file: Callable[..., Path], render: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The folder of a batch is owned while it runs."""
    import subprocess
    import sys

    path = job_file([render("a.mp4")])
    with owned(folder / "jobs.batch"):
        done = subprocess.run(
            [sys.executable, "-m", "nldf_engine", "batch", str(path)], capture_output=True, text=True
        )
    assert done.returncode == 1 and "writes there" in done.stderr and not (folder / "a.mp4").exists()
