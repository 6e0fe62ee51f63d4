"""Progress: an estimate on a terminal and in a log, and none for short work."""

import platform

import pytest

from nldf_engine.base import progress
from nldf_engine.base.memory import keep_freed_memory


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """What ends within two seconds needs no bar."""
    assert list(progress.track(range(5), "count")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_a_log_gets_lines_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Away from a terminal, plain lines say how far it is and what is left; the note stands at the end."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Bar("train", 100) as bar:
        for _ in range(50):
            now[0] += 1.0
            bar.step(note="31.2 dB")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("train  11 %") and "1:29 left" in lines[0] and lines[0].endswith("31.2 dB")
    assert lines[-1] == "train  50 steps in 0:50  31.2 dB"


def test_resumed_work_is_not_counted_in_the_estimate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of an earlier run took no time in this one."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Bar("train", 100) as bar:
        bar.start_at(80)
        for _ in range(11):
            now[0] += 1.0
            bar.step()
    assert "91/100 steps, 0:08 left" in capsys.readouterr().err


def test_keeping_memory_says_whether_it_works() -> None:
    """With glibc it takes effect, elsewhere it says that it does not."""
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
