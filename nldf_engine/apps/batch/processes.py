"""Tasks as processes of this machine, so many at a time."""

from __future__ import annotations

import os
import queue
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from nldf_engine.apps.batch.attempt import Outcome, attempt
from nldf_engine.apps.batch.tasks import Task


def gpus() -> list[str]:
    """The GPUs of this machine that jobs may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """See `Workers`. A task gets a share of the cores, and a GPU of its own where there are any.

    Args:
        workers: tasks at a time; None: one a GPU, or without any one for two cores.
        threads: of a task; None: an even share of the cores.
        retries: how often a task that crashed is started again.
    """

    def __init__(self, workers: int | None = None, threads: int | None = None, retries: int = 2) -> None:
        found = gpus()
        self.workers = workers or len(found) or max(1, cores() // 2)
        self.threads = threads or max(1, cores() // self.workers)
        self._retries = retries
        self._slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for number in range(self.workers):
            gpu = {"CUDA_VISIBLE_DEVICES": found[number % len(found)]} if found else {}
            self._slots.put({"OMP_NUM_THREADS": str(self.threads), **gpu})
        self._pool = ThreadPoolExecutor(self.workers, "nldf-batch")
        self._running: set[Future[Outcome]] = set()
        self._stopping = threading.Event()

    @property
    def described(self) -> str:
        """What runs the tasks, in words."""
        return f"{self.workers} process{'es' * (self.workers > 1)} of {self.threads} threads each"

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def start(self, task: Task) -> None:
        """See `Workers`."""
        self._running.add(self._pool.submit(self._attempts, task))

    def ended(self, seconds: float) -> list[Outcome]:
        """See `Workers`."""
        done, self._running = wait(self._running, seconds, return_when=FIRST_COMPLETED)
        return [future.result() for future in done]

    def _attempts(self, task: Task) -> Outcome:
        slot = self._slots.get()
        try:
            for _ in range(1 + self._retries):
                outcome = attempt(task, slot, self._stopping)
                if outcome.state != "crashed" or self._stopping.is_set():
                    break
            return outcome
        finally:
            self._slots.put(slot)
