"""The machine that computes, by name."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The CPU's name, as far as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
