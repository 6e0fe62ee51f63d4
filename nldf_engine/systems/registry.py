"""One file a system. `build` makes any of them from its name and its configuration as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.adnerf.model import RadianceField, RadianceFieldConfig
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig
from nldf_engine.systems.nldf_fast.model import GridLightField, GridLightFieldConfig

SYSTEMS: dict[str, type[nn.Module]] = {
    model.system: model for model in (RadianceField, LightField, GridLightField)
}
# A configuration comes from a file: sizes beyond these are a mistake or an attack, never a model.
LARGEST = 1 << 16
LONGEST = 32
_NESTED = {"bounds": Bounds, "conditions": ConditionConfig}


_WANTED: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}


def _scalar(expected: str, item: Any, where: str) -> Any:
    if not isinstance(item, _WANTED[expected]) or (isinstance(item, bool) and expected != "bool"):
        raise ValueError(f"{where}: expected {expected}, got {item!r}")
    if expected == "int" and not 0 <= item <= LARGEST:
        raise ValueError(f"{where}: expected 0 to {LARGEST}, got {item}")
    return item


def read_config(kind: Any, value: Any, where: str) -> Any:
    """The dataclass `kind` from JSON: numbers, words, lists of them, and the nested parts of a system.

    Raises:
        ValueError: unknown keys, or a value of another type or beyond the limits.
    """
    fields = {item.name: item for item in dataclasses.fields(kind)}
    if not isinstance(value, dict) or not set(value) <= set(fields):
        known = ", ".join(fields)
        raise ValueError(f"{where}: expected an object with keys among {known}, got {value!r}")
    arguments: dict[str, Any] = {}
    for name, item in value.items():
        if name in _NESTED:
            arguments[name] = read_config(_NESTED[name], item, f"{where}.{name}")
            continue
        expected = str(fields[name].type)
        if expected.startswith("tuple["):
            if not isinstance(item, list | tuple) or not 1 <= len(item) <= LONGEST:
                raise ValueError(f"{where}.{name}: expected 1 to {LONGEST} values, got {item!r}")
            inner = expected[len("tuple[") : -len(", ...]")]
            arguments[name] = tuple(_scalar(inner, part, f"{where}.{name}") for part in item)
            continue
        arguments[name] = _scalar(expected, item, f"{where}.{name}")
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def build(system: str, config: Any) -> nn.Module:
    """The network of `system` for its configuration, as a config object or as its JSON.

    Raises:
        ValueError: the system is unknown, or the configuration has unknown keys or wrong values.
    """
    if system not in SYSTEMS:
        raise ValueError(f"system: expected one of {', '.join(SYSTEMS)}, got {system!r}")
    model = SYSTEMS[system]
    kind = model.config_type  # type: ignore[attr-defined]
    return model(config if isinstance(config, kind) else read_config(kind, config, "config"))


def config_json(model: nn.Module) -> dict[str, Any]:
    """The model's configuration as JSON that `build` reads back."""
    return dataclasses.asdict(model.config)  # type: ignore[call-overload]


__all__ = [
    "SYSTEMS",
    "GridLightField",
    "GridLightFieldConfig",
    "LightField",
    "LightFieldConfig",
    "RadianceField",
    "RadianceFieldConfig",
    "build",
    "config_json",
    "read_config",
]
