"""`python -m bench.scaling.stopped SIGNAL STEP RANK train ...`: nldf, in which a signal comes at a step.

The process of that rank sends it to itself right before the step: what a run makes of it depends on no clock.
"""

from __future__ import annotations

import os
import signal
import sys

from nldf_engine.apps.cli.main import main
from nldf_engine.training import trainer
from nldf_engine.training.trainer import Trainer


def install(number: int, at: int, rank: str) -> None:
    """Sends signal `number` before step `at` in the process of that rank; checkpoints come often."""
    original = Trainer.step

    def step(self: Trainer) -> object:
        if self.state.step == at and os.environ.get("RANK", "0") == rank:
            os.kill(os.getpid(), number)
        return original(self)

    trainer.CHECKPOINT_SECONDS = 1.0
    Trainer.step = step  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    install(int(signal.Signals[sys.argv[1]]), int(sys.argv[2]), sys.argv[3])
    sys.exit(main(sys.argv[4:]))
