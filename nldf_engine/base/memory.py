"""The process' memory: its peak; keeping what was freed, so that a loop of large buffers touches no fresh
pages; and what was loaded, which the garbage collector need not look at.
"""

from __future__ import annotations

import ctypes
import gc
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


def keep_loaded() -> None:
    """What was loaded by now stays for good: the garbage collector looks at it no more.

    A full collection looks at every object that there is. Once torch is imported these are 200,000, and it
    takes 0.1 to 0.25 s, in which no thread runs. A process that owes somebody a frame every 40 ms calls this
    when it is ready, and before it makes what will be dropped.
    """
    gc.collect()
    gc.freeze()


def collect_rarely() -> None:
    """The garbage collector looks for reference cycles after 50,000 new objects in place of some hundreds.

    Importing torch makes 200,000 objects that stay, which it would look through again and again: that takes
    longer than a tenth of a second. Frames and their arrays are in no cycles; they are freed at once as
    before.
    """
    gc.set_threshold(50_000, 20, 20)
