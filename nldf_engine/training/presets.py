"""Presets: a system, the sizes of its network and a recipe. Registered ones are functions that return one."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

from nldf_engine.nn.weights import WeightAsset
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.registry import System, find_system, systems
from nldf_engine.training.recipe import Recipe, changed, setting_path

# A width is filled by this share of as many pixels of the camera: enlarging by less is not seen.
LEAST_FILMED = 0.85


@dataclass(frozen=True)
class Preset:
    """What `nldf train NAME`, or `training.train`, trains.

    Args:
        system: name in the registry.
        recipe: how it is trained.
        config: makes the configuration of its network; a torso's field is of the same kind, for conditions
            with the head's pose.
        name: in progress bars and provenance; `find_preset` sets it. The system's where empty.
        sizes: widths among which a run whose size nobody sets chooses by what the videos show, each with the
            settings, as text, that its pictures and those wider than them need beyond the recipe's; empty for
            the recipe's own width in any case.
        bundled_base: a base that comes with the package, or None.
    """

    system: str
    recipe: Recipe
    config: Callable[[Bounds, ConditionConfig], Any]
    name: str = ""
    sizes: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    bundled_base: WeightAsset | None = None

    def at_size_of(self, filmed: float) -> Preset:
        """The preset at the largest of its `sizes` that a video can fill.

        Args:
            filmed: pixels of the camera that the frames' width spans (`Dataset.filmed_width`).
        """
        fits = [size for size in self.sizes if size * LEAST_FILMED <= filmed]
        size = max(fits, default=min(self.sizes, default=self.recipe.size))
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, size=size))

    def fitted(self, overrides: Mapping[str, str]) -> Preset:
        """The preset with what its width needs, but for the settings in `overrides`, which somebody made."""
        width = max((size for size in self.sizes if size <= self.recipe.size), default=None)
        needed = {} if width is None else self.sizes[width]
        made = {setting_path(type(self.recipe), name) for name in overrides}
        return with_overrides(self, {name: text for name, text in needed.items() if name not in made})

    @property
    def label(self) -> str:
        """Its name, or the system's."""
        return self.name or self.system


def recipe_module(system: System) -> ModuleType:
    """The module that trains a system: it has `PRESETS` and `stages`."""
    return importlib.import_module(system.recipe)


@cache
def presets() -> Mapping[str, Callable[[], Preset]]:
    """Every preset of every system by its name.

    Raises:
        ValueError: two presets have one name.
    """
    found: dict[str, Callable[[], Preset]] = {}
    for system in systems().values():
        for name, preset in recipe_module(system).PRESETS.items():
            if name in found:
                raise ValueError(f"presets: two are called {name!r}")
            found[name] = preset
    return found


def find_preset(name: str, overrides: Mapping[str, str] | None = None) -> Preset:
    """The preset called `name`, its recipe changed by `overrides` (setting to text).

    Raises:
        ValueError: an unknown preset or setting, or a value of another type.
    """
    if name not in presets():
        raise ValueError(f"preset: expected one of {', '.join(presets())}, got {name!r}")
    return with_overrides(dataclasses.replace(presets()[name](), name=name), overrides or {})


def with_overrides(preset: Preset, overrides: Mapping[str, str]) -> Preset:
    """The preset with its recipe changed by `overrides` (setting to text).

    Raises:
        ValueError: an unknown system or setting, or a value of another type.
    """
    find_system(preset.system)
    return dataclasses.replace(preset, recipe=changed(preset.recipe, overrides, text=True))
