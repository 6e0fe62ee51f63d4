"""One file a system. `build` makes any of them from its name and its configuration as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from nldf_engine.models.adnerf import RadianceField, RadianceFieldConfig
from nldf_engine.models.conditions import ConditionConfig
from nldf_engine.models.nldf import LightField, LightFieldConfig
from nldf_engine.rendering.fields import Bounds

SYSTEMS: dict[str, type[nn.Module]] = {model.system: model for model in (RadianceField, LightField)}
# A configuration comes from a file: sizes beyond these are a mistake or an attack, never a model.
LARGEST = 1 << 16
_NESTED = {"bounds": Bounds, "conditions": ConditionConfig}


def _read(kind: Any, value: Any, where: str) -> Any:
    fields = {item.name: item for item in dataclasses.fields(kind)}
    if not isinstance(value, dict) or not set(value) <= set(fields):
        known = ", ".join(fields)
        raise ValueError(f"{where}: expected an object with keys among {known}, got {value!r}")
    arguments: dict[str, Any] = {}
    for name, item in value.items():
        if name in _NESTED:
            arguments[name] = _read(_NESTED[name], item, f"{where}.{name}")
            continue
        expected = str(fields[name].type)
        wanted: Any = {"int": int, "float": (int, float), "bool": bool, "str": str}[expected]
        if not isinstance(item, wanted) or (isinstance(item, bool) and expected != "bool"):
            raise ValueError(f"{where}.{name}: expected {expected}, got {item!r}")
        if expected == "int" and not 0 <= item <= LARGEST:
            raise ValueError(f"{where}.{name}: expected 0 to {LARGEST}, got {item}")
        arguments[name] = item
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
    return model(config if isinstance(config, kind) else _read(kind, config, "config"))


def config_json(model: nn.Module) -> dict[str, Any]:
    """The model's configuration as JSON that `build` reads back."""
    return dataclasses.asdict(model.config)  # type: ignore[call-overload]


__all__ = [
    "SYSTEMS",
    "LightField",
    "LightFieldConfig",
    "RadianceField",
    "RadianceFieldConfig",
    "build",
    "config_json",
]
