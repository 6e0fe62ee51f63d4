"""What a table measures that is no avatar: a part of a system by itself, trained and measured in one go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nldf_engine.base.results import key_of

# (dataset, seed, folder of public weights, folder for what several trials share) -> metrics by name.
Measure = Callable[[Path, int, Path | None, Path], dict[str, float]]


@dataclass(frozen=True)
class Trial:
    """One training and its measurement.

    Args:
        part: what is trained, a short name for its folder.
        settings: everything that it depends on beside seed and dataset, JSON.
        measure: trains and measures it.
        work: multiply-adds of it, about; only good for predicting how long it may take.
        seed: of its random numbers.
    """

    part: str
    settings: Mapping[str, Any]
    measure: Measure
    work: float = 1e12
    seed: int = 0

    @property
    def needs(self) -> tuple[()]:
        """The cells that are trained before it: none."""
        return ()

    def key(self, dataset: str) -> str:
        """Ten hexadecimal digits that name it on a dataset of that hash."""
        return key_of(self.part, dict(self.settings), self.seed, dataset)[:10]

    def name(self, dataset: str) -> str:
        """What its folder is called."""
        return f"{self.part}-{self.key(dataset)}"

    def with_seeds(self, count: int) -> list[Trial]:
        """The same from `count` seeds."""
        return [replace(self, seed=seed) for seed in range(count)]

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        said = (f"{name} {value}" for name, value in self.settings.items())
        return ", ".join([self.part, *said, f"seed {self.seed}"])
