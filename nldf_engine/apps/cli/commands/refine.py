"""`nldf refine`: makes a dataset's poses exact by its pictures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import Command, Json, checking_flags, positive, save_results, value


@dataclass(frozen=True)
class Refine(Command):
    """Move a dataset's poses to where its pictures say they are, as prepare does.

    The head's poses and the torso's motion are meant, and `nldf prepare` does this by itself. A small field
    of the speaker is trained on all frames, measures how far each frame is off, and is discarded. Avatars
    of a refined dataset are sharper.
    """

    examples: ClassVar[tuple[str, ...]] = ("nldf refine data/speaker",)
    when_stopped: ClassVar[str] = "the dataset is as it was: run the same command again"

    fills: ClassVar[tuple[str, ...]] = ("dataset",)

    dataset: Annotated[Path, Positional, value("DATASET")]
    """the dataset; its tracked poses are kept beside the refined ones"""
    size: Annotated[int, value("N")] = 256
    """width of the pictures that are compared, in pixels; at most the dataset's"""
    rounds: Annotated[int, value("N")] = 3
    """how often every frame is moved"""
    steps: Annotated[int, value("N")] = 2000
    """training steps before each round"""
    seed: Annotated[int, value("N")] = 0
    """of the field's weights and samples"""
    json: Json = None
    """also write the results here"""

    def run(self) -> int:
        """Refines, and prints by how much the frames moved."""
        positive(size=self.size, rounds=self.rounds, steps=self.steps)
        from nldf_engine.prepare import RefineConfig
        from nldf_engine.prepare.refine import refine

        with checking_flags():
            config = RefineConfig(self.size, self.rounds, self.steps, seed=self.seed)
        refined = refine(self.dataset, config)
        print(refined.text())
        save_results(self.json, asdict(refined))
        return 0
