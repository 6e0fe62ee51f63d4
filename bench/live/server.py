"""A server for a measurement: `nldf serve` as a process of its own, and its memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_SECONDS, END_SECONDS = 120.0, 90.0


@dataclass(frozen=True)
class Server:
    """A running server: its URL and the process that listens."""

    url: str
    pid: int

    @property
    def workers(self) -> list[int]:
        """The processes that render."""
        return sorted(
            int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        )


@contextlib.contextmanager
def serving(avatars: list[Path], workers: int, *flags: str, log: Path | None = None) -> Iterator[Server]:
    """A server of these avatars, until the block is left; what it logs goes to `log`, if given.

    Raises:
        RuntimeError: it did not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "nldf_engine", "serve", *map(str, avatars), "--port", str(port)]
    out = None if log is None else log.open("w")
    process = subprocess.Popen(
        [*command, "--workers", str(workers), *([] if "--sessions" in flags else ["--sessions", "64"]),
         "--rate", "1000", *flags],
        stdout=subprocess.DEVNULL, stderr=out,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url)
        yield Server(url, process.pid)
    finally:
        process.terminate()
        process.wait(END_SECONDS)
        if out is not None:
            out.close()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            if json.load(answer)["ready"]:
                return
        time.sleep(0.2)
    raise RuntimeError("the server did not start")


def memory(pid: int) -> dict[str, float]:
    """MB that a process takes: resident, its share (what is shared counts in parts), and its own alone."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {name: sum(map(int, re.findall(rf"^{name}\w*:\s+(\d+) kB", text, re.M))) / 1024
             for name in ("Rss", "Pss:", "Private")}  # fmt: skip
    pss = re.search(r"^Pss:\s+(\d+) kB", text, re.M)
    return {"resident": found["Rss"], "share": int(pss[1]) / 1024 if pss else 0.0, "own": found["Private"]}


def busy(pid: int) -> float:
    """Seconds that a process has computed so far, on all cores together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_memory() -> float:
    """MB that this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
