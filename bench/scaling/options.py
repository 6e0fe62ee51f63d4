"""What every measurement is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Where and how much.

    Args:
        folder: of everything that is made.
        preset, steps: of the runs.
        jobs: renders of a batch.
        seconds: of speech in each.
        size: of their pictures, pixels.
        picture: where the curves go; in the folder where None.
    """

    folder: Path
    preset: str = "nldf-fast-tiny"
    steps: int = 120
    jobs: int = 20
    seconds: float = 4.0
    size: int = 256
    picture: Path | None = None
