"""A local Ray cluster of two nodes: a node is killed in the middle of a batch, and a batch is stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.scaling.options import Options
from bench.scaling.renders import clean, serial, start_batch, write_jobs
from nldf_engine.base.files import read_json, sha256

START_SECONDS = 600.0
# After which a node that could not be set up has ended.
SETTLED_SECONDS = 5.0
# Memory of a node for objects, bytes: tasks hand over a few hundred.
OBJECTS = 100_000_000


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have, by /proc."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(words[1]), []).append(int(stat.parent.name))
    found = list(parents.get(pid, []))
    for child in found:
        found += parents.get(child, [])
    return found


class Node:
    """A node of a cluster on this machine, of one core; the first one is the head.

    Args:
        port: of the head, on loopback.
        head: whether this one is.
    """

    def __init__(self, port: int, head: bool) -> None:
        place = ["--head", "--port", str(port), "--include-dashboard", "false"]
        flags = place if head else ["--address", f"127.0.0.1:{port}"]
        flags += ["--node-ip-address", "127.0.0.1", "--object-store-memory", str(OBJECTS)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *flags, "--num-cpus", "1", "--block",
             "--disable-usage-stats"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            # Else Ray gives way to everything else on this machine.
            env={**os.environ, "RAY_worker_niceness": "0"},
        )  # fmt: skip

    def check(self) -> None:
        """Raises RuntimeError where it has ended by itself: on a busy machine Ray gives up after a minute."""
        if self._process.poll() is not None:
            raise RuntimeError(f"a node of the cluster has ended with exit code {self._process.returncode}")

    def kill(self) -> int:
        """Ends it at once, with everything that it runs; returns how many processes that were."""
        doomed = [self._process.pid, *descendants(self._process.pid)]
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        return len(doomed)


@contextlib.contextmanager
def cluster() -> Iterator[tuple[str, Node]]:
    """A cluster of two nodes: its address, and the node that is not the head."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = Node(port, head=True)
    other: Node | None = None
    try:
        wait_for(lambda: head.check() or answers(port), "the head of the cluster")
        other = Node(port, head=False)
        time.sleep(SETTLED_SECONDS)
        head.check()
        yield f"127.0.0.1:{port}", other
    finally:
        if other is not None:
            other.kill()
        head.kill()


def answers(port: int) -> bool:
    """Whether something listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(ready: Any, what: str) -> None:
    """Waits until `ready()`.

    Raises:
        RuntimeError: it takes too long.
    """
    until = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > until:
            raise RuntimeError(f"{what} has not come up in {START_SECONDS:.0f} s")
        time.sleep(0.2)


def done(path: Path) -> int:
    """How many jobs of a batch are done."""
    return len(list((path.with_suffix(".batch") / "state").glob("*.json")))


def node_lost(options: Options) -> dict[str, Any]:
    """a batch on a Ray cluster of two nodes, of which one is killed in the middle."""
    path = write_jobs(options.folder / "cluster", options, options.jobs, options.seconds)
    clean(path)
    with cluster() as (address, other):
        began = time.monotonic()
        batch = start_batch(path, "--ray", address)
        wait_for(lambda: done(path) >= options.jobs // 4 or batch.poll() is not None, "a part of the batch")
        before, killed = done(path), other.kill()
        said, _ = batch.communicate()
        seconds = time.monotonic() - began
    return {
        "a node killed": {
            "exit": batch.returncode, "seconds": seconds, "done_before": before,
            "processes_killed": killed, "said": said.splitlines()[-1], **compared(path),
        }
    }  # fmt: skip


def stopped(options: Options) -> dict[str, Any]:
    """a batch on a Ray cluster that is stopped by Ctrl-C half-way, and started again."""
    path = write_jobs(options.folder / "cluster", options, options.jobs, options.seconds)
    clean(path)
    # A shell that runs this in the background has Ctrl-C ignored, and what is started would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with cluster() as (address, _):
        batch = start_batch(path, "--ray", address)
        wait_for(lambda: done(path) >= options.jobs // 2 or batch.poll() is not None, "half of the batch")
        batch.send_signal(signal.SIGINT)
        said, _ = batch.communicate()
        found = {"stopped": {"exit": batch.returncode, "done": done(path), "said": said.splitlines()[-1]}}
        batch = start_batch(path, "--ray", address)
        said, _ = batch.communicate()
    found["resumed"] = {"exit": batch.returncode, "said": said.splitlines()[-1], **compared(path)}
    return found


def compared(path: Path) -> dict[str, Any]:
    """The batch's videos against those of one process after the other, byte by byte."""
    jobs = read_json(path.with_suffix(".batch") / "report.json")["jobs"]
    expected = serial(path, list(jobs))
    outputs = {name: path.parent / "out" / f"{name[3:]}.mp4" for name in jobs}
    same = [name for name, out in outputs.items() if out.is_file() and sha256(out) == expected[name]]
    return {
        "jobs": len(jobs),
        "identical": len(same),
        "attempts": sum(one["attempts"] for one in jobs.values()),
    }
