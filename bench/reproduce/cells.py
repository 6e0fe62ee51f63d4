"""One training of a table, and what names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nldf_engine.base.results import key_of
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.registry import build_field, find_system
from nldf_engine.training import Preset, Recipe

# Stand in for a dataset's where a network is only looked at.
SOME_BOUNDS = Bounds(0.5, 0.9)


@dataclass(frozen=True)
class Cell:
    """One training.

    Args:
        system: its name in the registry; its head is a ray field.
        recipe: how it is trained.
        network: the network's own settings, fields of its configuration beside `bounds` and `conditions`.
        teacher: the cell whose avatar teaches; None for none.
        seed: of the weights and the order of the rays; a teacher has its own.
        seconds: train on so much of the video only; None for all of its training part.

    Raises:
        ValueError: an unknown system, or settings that its network doesn't take.
    """

    system: str
    recipe: Recipe
    network: Mapping[str, Any]
    teacher: Cell | None = None
    seed: int = 0
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.teacher is not None and not self.distils:
            raise ValueError(f"teacher: {self.system} does not learn from one; nldf does")
        try:
            self.config()
        except TypeError as error:
            raise ValueError(f"network: {error}") from error

    @property
    def distils(self) -> bool:
        """Whether its system can learn from a teacher: students are what the tables are about."""
        return hasattr(self.recipe, "distillation")

    def config(self, bounds: Bounds = SOME_BOUNDS, conditions: ConditionConfig | None = None) -> Any:
        """The configuration of its network."""
        return find_system(self.system).config(bounds, conditions or ConditionConfig(), **self.network)

    def preset(self, name: str) -> Preset:
        """What `nldf_engine.training.train` trains, under a name for its provenance."""
        return Preset(self.system, self.recipe, self.config, name)

    def key(self, dataset: str) -> str:
        """Ten hexadecimal digits that name this training on a dataset of that hash."""
        return key_of(asdict(self), dataset)[:10]

    def name(self, dataset: str) -> str:
        """What its folder is called."""
        return f"{self.system}-{self.key(dataset)}"

    def with_seeds(self, count: int) -> list[Cell]:
        """The same training from `count` seeds; a teacher's only once, for all students."""
        return [replace(self, seed=seed) for seed in range(count if self.distils else 1)]

    @property
    def work(self) -> float:
        """Multiply-adds of the whole training, about: only good for predicting how long it may take."""
        conditions = ConditionConfig(motion=self.recipe.driving.motion_codes)
        rays, pool = self.recipe.sampling.rays, getattr(self.recipe, "pool", None)
        if pool is not None and pool.on:
            rays += pool.batch
        field = build_field(self.system, self.config(conditions=conditions))
        return 3.0 * self.recipe.steps * rays * field.macs

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        config, recipe = vars(self.config()), self.recipe
        parts = [f"{self.system} {' x '.join(str(config[n]) for n in ('depth', 'width') if n in config)}"]
        parts += [f"{sign} {config[n]}" for sign, n in (("K", "points"), ("M", "segments")) if n in config]
        if (distillation := getattr(recipe, "distillation", None)) is not None:
            weight = f"lambda {distillation.segment_weight:g}"
            parts.append("no teacher" if self.teacher is None else weight)
        if (pool := getattr(recipe, "pool", None)) is not None:
            parts.append("pool" if pool.on else "no pool")
        if self.seconds is not None:
            parts.append(f"{self.seconds:g} s of video")
        return ", ".join([*parts, f"{recipe.size} px", f"{recipe.steps} steps", f"seed {self.seed}"])
