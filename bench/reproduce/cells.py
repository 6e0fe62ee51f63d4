"""One training of a table, and what names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import nn

from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.adnerf.model import RadianceField, RadianceFieldConfig
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig
from nldf_engine.systems.registry import ConditionConfig
from nldf_engine.training import PRESETS
from nldf_engine.training.presets import Preset, Recipe

NETWORKS = {"nldf": (LightField, LightFieldConfig), "adnerf": (RadianceField, RadianceFieldConfig)}
# Stand in for a dataset's where a network is only looked at.
SOME_BOUNDS = Bounds(0.5, 0.9)


@dataclass(frozen=True)
class Cell:
    """One training.

    Args:
        recipe: how; its system, "nldf" or "adnerf", says which network.
        network: the network's own settings, fields of its configuration beside `bounds` and `conditions`.
        teacher: the cell whose avatar teaches; None for none.
        seed: of the weights and the order of the rays; a teacher has its own.
        seconds: train on so much of the video only; None for all of its training part.

    Raises:
        ValueError: an unknown system, or settings that its network doesn't take.
    """

    recipe: Recipe
    network: Mapping[str, Any] = field(default_factory=dict)
    teacher: Cell | None = None
    seed: int = 0
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.recipe.system not in NETWORKS:
            raise ValueError(f"system: expected one of {', '.join(NETWORKS)}, got {self.recipe.system!r}")
        if self.teacher is not None and self.recipe.system == "adnerf":
            raise ValueError("teacher: only nldf learns from one, not adnerf")
        try:
            self.make(SOME_BOUNDS, ConditionConfig(), build=False)
        except TypeError as error:
            raise ValueError(f"network: {error}") from error

    def make(self, bounds: Bounds, conditions: ConditionConfig, build: bool = True) -> Any:
        """The network, or with `build` off only its configuration."""
        network, config = NETWORKS[self.recipe.system]
        made = config(bounds, conditions, **self.network)
        return network(made) if build else made

    def key(self, dataset: str) -> str:
        """Ten hexadecimal digits that name this training on a dataset of that hash."""
        text = json.dumps([asdict(self), dataset], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def name(self, dataset: str) -> str:
        """What its folder is called."""
        return f"{self.recipe.system}-{self.key(dataset)}"

    def with_seeds(self, count: int) -> list[Cell]:
        """The same training from `count` lots of random numbers; a teacher's only once, for all students."""
        return [replace(self, seed=seed) for seed in range(count if self.recipe.system == "nldf" else 1)]

    @property
    def work(self) -> float:
        """Multiply-adds of the whole training, about: only good for telling how long it may take."""
        conditions = ConditionConfig(motion=self.recipe.motion_codes)
        rays = self.recipe.rays
        if self.recipe.system == "nldf" and self.recipe.active_pool:
            rays += self.recipe.pool_batch
        return 3.0 * self.recipe.steps * rays * self.make(SOME_BOUNDS, conditions).macs

    @property
    def words(self) -> str:
        """What it is, in a line."""
        config, recipe = self.make(SOME_BOUNDS, ConditionConfig(), build=False), self.recipe
        parts = [f"{recipe.system} {config.depth} x {config.width}"]
        if recipe.system == "nldf":
            parts += [f"K {config.points}", f"M {config.segments}"]
            parts.append("no teacher" if self.teacher is None else f"lambda {recipe.segment_weight:g}")
            parts.append("pool" if recipe.active_pool else "no pool")
        if self.seconds is not None:
            parts.append(f"{self.seconds:g} s of video")
        return ", ".join([*parts, f"{recipe.size} px", f"{recipe.steps} steps", f"seed {self.seed}"])

    @contextmanager
    def preset(self, name: str) -> Iterator[str]:
        """Lets `nldf_engine.training.train` know this cell by `name` inside the block."""

        def model(bounds: Bounds, conditions: ConditionConfig) -> nn.Module:
            return self.make(bounds, conditions)

        PRESETS[name] = lambda: Preset(self.recipe, model)
        try:
            yield name
        finally:
            del PRESETS[name]
