"""`nldf serve` as a process: it ends cleanly by a signal, and never leaves a worker behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nldf_engine.apps.cli import main as cli


@contextlib.contextmanager
def serving(avatar: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """(the process, its workers) once it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "nldf_engine",
        "serve",
        str(avatar),
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
            assert json.load(answer)["ready"]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        yield process, [int(pid) for pid in children.read_text().split()]
    finally:
        process.kill()
        process.wait(20)


def alive(pids: list[int]) -> list[int]:
    """Those that still run."""
    states = {}
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            states[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return [pid for pid, state in states.items() if state != "Z"]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="there is no /proc that lists children")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_it_leaves_no_worker_behind(avatars: dict[str, Path], number: signal.Signals, hangups: None) -> None:
    """A hang-up, which ends it as a termination does, gives 0; where it is killed, its workers end too."""
    with serving(avatars["ada"]) as (process, workers):
        assert alive(workers)
        process.send_signal(number)
        said = process.communicate(timeout=120)[1]
        assert process.returncode == (-9 if number == signal.SIGKILL else 0), said
        deadline = time.monotonic() + 60
        while alive(workers):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_wrong_flags_and_avatars_are_said_before_anything_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Usage errors end with 2, an avatar that is none with 1, each with one line."""
    film = tmp_path / "film.mp4"
    film.touch()
    for flags, words in (
        ([], "AVATAR"),
        ([str(tmp_path), "--host", "0.0.0.0"], "--token-file"),
        ([str(tmp_path), "--udp-ports", "many"], "--udp-ports"),
        ([str(tmp_path), "--tls-cert", "c.pem"], "--tls-key"),
        ([str(tmp_path), "--sessions", "0"], "--sessions"),
        ([str(tmp_path), "--into", "film.mp4"], "--poses"),
        ([str(tmp_path), "--region", "mouth"], "--region is for --into"),
        ([str(tmp_path), str(tmp_path), "--into", str(film), "--poses", str(tmp_path)], "--into"),
    ):
        os.environ.pop("NLDF_TOKEN", None)
        assert cli.main(["serve", *flags]) == 2
        assert words in capsys.readouterr().err
    assert cli.main(["serve", str(tmp_path), "--tls-cert", "c.pem", "--tls-key", "k.pem"]) == 1
    assert "c.pem" in capsys.readouterr().err
    assert cli.main(["serve", str(tmp_path), "--port", "0"]) == 2
