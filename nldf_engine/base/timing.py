"""Where the time of a frame goes: named stages, measured only inside `listen`.

    with listen() as stages:
        render()
    stages.seconds["network"]

`stage` costs a fraction of a microsecond outside of it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field


@dataclass
class Stages:
    """Seconds by stage, and how to wait for a device before the clock is read.

    Args:
        wait: called at both ends of every stage, for devices that work asynchronously.
        seconds: sum of every stage entered since the last `take`.
    """

    wait: Callable[[], object] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        """Adds to a stage."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """The sums so far; the next ones start from zero."""
        taken, self.seconds = self.seconds, {}
        return taken


_listening: Stages | None = None
_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


@contextlib.contextmanager
def listen(wait: Callable[[], object] | None = None) -> Iterator[Stages]:
    """Measures every stage that is entered within, in any thread. One listener at a time.

    Raises:
        RuntimeError: somebody listens already.
    """
    global _listening
    if _listening is not None:
        raise RuntimeError("timing: somebody listens already; one measurement at a time")
    _listening = Stages(wait)
    try:
        yield _listening
    finally:
        _listening = None


def stage(name: str) -> AbstractContextManager[None]:
    """A `with` block whose time counts for the stage `name`; stages do not nest."""
    return _NOTHING if _listening is None else _measure(_listening, name)


@contextlib.contextmanager
def _measure(stages: Stages, name: str) -> Iterator[None]:
    if stages.wait is not None:
        stages.wait()
    start = time.perf_counter()
    try:
        yield
    finally:
        if stages.wait is not None:
            stages.wait()
        stages.add(name, time.perf_counter() - start)
