"""One writer an output: the second one is refused and told who writes, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.lock import owned

HOLDER = (
    "import sys; from nldf_engine.base.lock import owned\n"
    "with owned(sys.argv[1]):\n    print('in', flush=True); sys.stdin.read()"
)


def holder(path: Path) -> subprocess.Popen[str]:
    """Another process that has the lock of `path`, until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    return process


def test_a_second_process_is_told_who_writes(tmp_path: Path) -> None:
    """Its number, command and time; after its end the output is free, and no file is left."""
    process = holder(tmp_path / "out.mp4")
    with pytest.raises(FileProblem, match=rf"out\.mp4: process {process.pid} \(-c.*since .*writes there"):
        owned(tmp_path / "out.mp4").__enter__()
    with owned(tmp_path / "other.mp4"):
        assert len(list(tmp_path.iterdir())) == 2
    process.communicate()
    assert list(tmp_path.iterdir()) == []
    with owned(tmp_path / "out.mp4"):
        pass


def test_a_package_that_runs_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m nldf_engine train` is no `__main__.py`."""
    monkeypatch.setattr(sys, "argv", ["/lib/nldf_engine/__main__.py", "train", "x"])
    with owned(tmp_path / "out"):
        assert f"process {os.getpid()} (nldf_engine train, since" in (tmp_path / ".out.lock").read_text()


def test_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    """What kill -9 leaves behind is taken over, and removed in the end."""
    process = holder(tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
    with owned(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_same_process_may_enter_again(tmp_path: Path) -> None:
    """Also by another spelling and through a link; folders that were made for nothing go."""
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    with owned(tmp_path / "real" / "out"), owned(tmp_path / "link" / "out", tmp_path / "b"):
        assert (tmp_path / "real" / ".out.lock").is_file()
    with pytest.raises(RuntimeError), owned(tmp_path / "new" / "deep" / "out"):
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    (tmp_path / "file").touch()
    with pytest.raises(FileProblem, match="can't be"):
        owned(tmp_path / "file" / "out").__enter__()


def test_a_full_disk_takes_the_name_and_not_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where who holds it can't be written, the lock is held all the same, and at once."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with owned(tmp_path / "out"):
        assert (tmp_path / ".out.lock").read_bytes() == b""
    assert not (tmp_path / ".out.lock").exists()


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    """What it stands for stays as it is."""
    (tmp_path / "dear").write_text("letters")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "dear")
    with pytest.raises(FileProblem, match="out: it can't be written"), owned(tmp_path / "out"):
        pass
    assert (tmp_path / "dear").read_text() == "letters"
