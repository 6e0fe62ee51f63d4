"""Threads that wait leave their core soon, unless somebody has said otherwise."""

import os
import subprocess
import sys

import pytest

from nldf_engine.base.waiting import OTHERS, TURNS, VARIABLE, wait_briefly


@pytest.fixture
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing of it, restored behind the test."""
    for name in OTHERS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_what_nobody_said_is_set(unsaid: None) -> None:
    """It is set once."""
    assert wait_briefly()
    assert os.environ[VARIABLE] == str(TURNS)
    assert not wait_briefly()


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "active"), (VARIABLE, "7")])
def test_what_somebody_said_stays(
    unsaid: None, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Either variable that the runtime reads is left alone."""
    monkeypatch.setenv(name, value)
    assert not wait_briefly()
    assert [os.environ.get(other) for other in OTHERS].count(None) == 1 and os.environ[name] == value


def test_the_command_says_it_before_torch_is_loaded(unsaid: None) -> None:
    """Where `nldf` begins, torch with its runtime is not there yet."""
    code = (
        "import os, sys\n"
        "from nldf_engine.apps.cli import main\n"
        "def work():\n"
        f"    assert os.environ[{VARIABLE!r}] and 'torch' not in sys.modules\n"
        "    return 0\n"
        "sys.exit(main.guarded('nldf', work, lambda: ''))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
