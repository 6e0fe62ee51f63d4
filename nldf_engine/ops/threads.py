"""How many threads torch's own operations take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch's own operations on the CPU take one thread: no number depends on how many there are.

    A product of matrices is divided among threads, and for some shapes and numbers of threads its sums are
    added in another order. For what is small, and everything after depends on; the kernels of this package
    give the same bits on any number of threads by themselves.
    """
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(former)
