"""The process' memory: its peak; and keeping what was freed, so that a loop of large buffers touches no fresh
pages.
"""

from __future__ import annotations

import ctypes
import sys

# glibc's names of its tunables, from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def peak_memory_mb() -> int | None:
    """The most memory that this process ever had, in MiB; None on Windows, where nothing says it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (1 << 20 if sys.platform == "darwin" else 1 << 10))  # bytes there, KiB elsewhere


def keep_freed_memory(most_bytes: int = (1 << 31) - 1) -> bool:
    """Makes the C library keep freed memory instead of handing it back to the system.

    By default glibc maps every large buffer again and unmaps it when it is freed, and each first touch of
    a page is a fault. A training step allocates and frees the same buffers every time: on virtual
    machines the faults can cost several times the arithmetic.

    Args:
        most_bytes: how much free memory the process may keep.

    Returns:
        whether it took effect (glibc on Linux only; elsewhere nothing is changed).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, most_bytes), (_M_TOP_PAD, 64 << 20))
    done = [mallopt(name, value) == 1 for name, value in settings]
    return all(done)
