"""Threads that wait leave their core soon, unless somebody has said otherwise."""

import os
import subprocess
import sys

import pytest

from nldf_engine.base.waiting import RUNTIMES, wait_briefly


@pytest.fixture
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing of it, restored behind the test."""
    for runtime in RUNTIMES:
        for name in (runtime.variable, *runtime.others):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)


def test_what_nobody_said_is_set(unsaid: None) -> None:
    """It is set once, for each runtime."""
    assert wait_briefly() == [runtime.variable for runtime in RUNTIMES]
    assert all(os.environ[runtime.variable] == runtime.value for runtime in RUNTIMES)
    assert wait_briefly() == []


@pytest.mark.parametrize("said", [name for r in RUNTIMES for name in (r.variable, *r.others)])
def test_what_somebody_said_stays(unsaid: None, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """Any variable that a runtime reads is left alone, and the other runtime is set."""
    monkeypatch.setenv(said, "7")
    own = next(r for r in RUNTIMES if said in (r.variable, *r.others))
    assert wait_briefly() == [r.variable for r in RUNTIMES if r is not own]
    assert os.environ[said] == "7" and (said == own.variable or own.variable not in os.environ)


def test_the_command_says_it_before_the_runtimes_are_loaded(unsaid: None) -> None:
    """Where `nldf` begins, numpy and torch with their runtimes are not there yet."""
    code = (
        "import os, sys\n"
        "from nldf_engine.apps.cli import main\n"
        "def work():\n"
        f"    assert all(os.environ[name] for name in {[r.variable for r in RUNTIMES]!r})\n"
        "    assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "    return 0\n"
        "sys.exit(main.guarded('nldf', work, lambda: ''))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_threads_of_numpy_do_not_hold_their_cores(unsaid: None) -> None:
    """Behind a product, a process that sleeps takes less time of the processor than by default."""
    code = (
        "import sys, time\n"
        "if sys.argv[1]:\n"
        "    from nldf_engine.base.waiting import wait_briefly\n"
        "    wait_briefly()\n"
        "import numpy as np\n"
        "a = np.ones((400, 400))\n"
        "a @ a\n"
        "begun = time.process_time()\n"
        "for _ in range(20):\n"
        "    a @ a\n"
        "    time.sleep(0.02)\n"
        "print(time.process_time() - begun)\n"
    )
    spent = [
        float(subprocess.run([sys.executable, "-c", code, how], capture_output=True, check=True).stdout)
        for how in ("", "briefly")
    ]
    if spent[0] < 0.2:
        pytest.skip(f"numpy's threads hold no core here by default: {spent[0]:.2f} s of 0.4 s asleep")
    assert spent[1] < spent[0] / 2
