"""One training of a table, and what names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nldf_engine.base.results import key_of
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.registry import build_head, find_system
from nldf_engine.training import Preset, Recipe

# Stand in for a dataset's where a network is only looked at.
SOME_BOUNDS = Bounds(0.5, 0.9)


def conditions_of(recipe: Recipe) -> ConditionConfig:
    """The per-frame code of a recipe, as far as it is known without a dataset."""
    driving = recipe.driving
    return ConditionConfig(motion=driving.motion_codes, upper=driving.upper_codes)


@dataclass(frozen=True)
class Cell:
    """One training.

    Args:
        system: its name in the registry.
        recipe: how it is trained.
        network: the network's own settings, fields of its configuration beside `bounds` and `conditions`.
        teacher: the cell whose avatar teaches; None for none.
        seed: of the weights and the order of the rays; a teacher has its own.
        seconds: train on so much of the video only; None for all of its training part.
        chosen: which seconds: "first"; "best", as `nldf train --seconds` chooses; or a number, which draws
            them.
        base: the cell, of several speakers, whose base it begins from; None for none.
        speakers: of a base, the synthetic speakers that it learns, settings of `SyntheticConfig` each; the
            dataset where empty.
        shared: others begin with it: it is trained once, however many seeds they have.
        note: what sets it apart, for its summary.

    Raises:
        ValueError: an unknown system, settings that its network doesn't take, or a base of one speaker.
    """

    system: str
    recipe: Recipe
    network: Mapping[str, Any]
    teacher: Cell | None = None
    seed: int = 0
    seconds: float | None = None
    chosen: str | int = "first"
    base: Cell | None = None
    speakers: tuple[Mapping[str, Any], ...] = ()
    shared: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.teacher is not None and not self.distils:
            raise ValueError(f"teacher: {self.system} does not learn from one; nldf does")
        if not isinstance(self.chosen, int) and self.chosen not in ("first", "best"):
            raise ValueError(f"chosen: expected first, best or a number, got {self.chosen!r}")
        if self.base is not None and len(self.base.speakers) < 2:
            raise ValueError(f"base: expected a cell of several speakers, got {len(self.base.speakers)}")
        try:
            self.config(conditions=conditions_of(self.recipe))
        except TypeError as error:
            raise ValueError(f"network: {error}") from error

    @property
    def needs(self) -> tuple[Cell, ...]:
        """The cells that are trained before it."""
        return tuple(cell for cell in (self.teacher, self.base) if cell is not None)

    @property
    def distils(self) -> bool:
        """Whether its system can learn from a teacher."""
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
        """The same training from `count` seeds; one that others begin with only once, for all of them."""
        return [replace(self, seed=seed) for seed in range(1 if self.shared else count)]

    @property
    def work(self) -> float:
        """Multiply-adds of the whole training, about: only good for predicting how long it may take."""
        rays, pool = self.recipe.sampling.rays, getattr(self.recipe, "pool", None)
        if pool is not None and pool.on:
            rays += pool.batch
        head = build_head(self.system, self.config(conditions=conditions_of(self.recipe)))
        return 3.0 * self.recipe.steps * rays * head.macs

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        config, recipe = vars(self.config(conditions=conditions_of(self.recipe))), self.recipe
        sizes = " x ".join(str(config[n]) for n in ("depth", "width") if n in config)
        parts = [f"{self.system} {sizes}".rstrip()]
        parts += [f"{sign} {config[n]}" for sign, n in (("K", "points"), ("M", "segments")) if n in config]
        if (distillation := getattr(recipe, "distillation", None)) is not None:
            weight = f"lambda {distillation.segment_weight:g}"
            parts.append("no teacher" if self.teacher is None else weight)
        if (pool := getattr(recipe, "pool", None)) is not None:
            parts.append("pool" if pool.on else "no pool")
        if self.note:
            parts.append(self.note)
        if self.speakers:
            parts.append(f"{len(self.speakers)} synthetic speakers")
        if self.base is not None:
            parts.append("from a base")
        if self.seconds is not None:
            which = {"first": "", "best": "best "}.get(str(self.chosen), f"drawn ({self.chosen}) ")
            parts.append(f"{which}{self.seconds:g} s of video")
        return ", ".join([*parts, f"{recipe.size} px", f"{recipe.steps} steps", f"seed {self.seed}"])
