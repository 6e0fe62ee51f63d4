"""The registry of systems. Central code looks a system up by its name, and knows nothing else about it.

A system is a folder of this package with a `SYSTEM` in its `__init__`, or comes from another package by the
entry point group `nldf_engine.systems`, whose entries are `System` objects.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from nldf_engine.base.json import decode
from nldf_engine.nn.pose import PoseEncoder
from nldf_engine.rendering.fields import RayField
from nldf_engine.rendering.heads import Head, RayHead
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.rendering.torsos import Torso
from nldf_engine.systems.common.torso import TorsoPlate
from nldf_engine.systems.common.torso_field import TorsoField, TorsoFieldConfig
from nldf_engine.systems.common.torso_layer import TorsoLayer, TorsoLayerConfig
from nldf_engine.systems.common.torso_unet import UnetConfig, UnetTorso

GROUP = "nldf_engine.systems"
# A configuration may come from an untrusted file: larger numbers and longer lists are rejected.
LARGEST = 1 << 16
LONGEST = 32


@dataclass(frozen=True)
class System:
    """One system.

    Args:
        name: as avatars, presets and the command line call it.
        config: frozen dataclass of its network's sizes; avatars store it as JSON.
        head: builds an untrained head from a configuration.
        recipe: name of the module that trains it: `PRESETS` (name to function returning a
            `training.presets.Preset`) and `stages` (see `training.stages`). Loaded only to train.
        field: builds only the network of the head, where that is a ray field, so that a torso can use the
            same class (`TorsoField`); else None.
        importer: name of the module that makes avatars of networks which the authors' own program trained:
            `IMPORTER` (see `training.import_network`). Loaded only to import; None where there is none.
    """

    name: str
    config: type
    head: Callable[[Any], Head]
    recipe: str
    field: Callable[[Any], RayField] | None = None
    importer: str | None = None

    def read_config(self, value: Any, where: str = "config") -> Any:
        """The configuration decoded from parsed JSON; `where` names it in error messages.

        Raises:
            ValueError: unknown keys, wrong types, or sizes beyond the limits.
        """
        check_sizes(value, where)
        return decode(self.config, value, where)


def ray_system(network: type[RayField], config: type, recipe: str, importer: str | None = None) -> System:
    """A system whose head is a ray field with a region; its name is the network's `system`.

    Args:
        network: takes a configuration.
        config, recipe, importer: as for `System`.
    """
    return System(
        network.system, config, lambda sizes: RayHead(network(sizes), HeadRegion()), recipe, network, importer
    )


@cache
def systems() -> Mapping[str, System]:
    """Every system by its name: those of this package, then those of entry points.

    An outside package that can't be imported, or whose system has a name that is taken, is left out with a
    UserWarning, so that it breaks no avatar of another system.
    """
    import nldf_engine.systems as package

    found: dict[str, System] = {}
    for part in pkgutil.iter_modules(package.__path__):
        if part.ispkg:
            module = importlib.import_module(f"{package.__name__}.{part.name}")
            if hasattr(module, "SYSTEM"):
                found[module.SYSTEM.name] = module.SYSTEM
    for entry in entry_points(group=GROUP):
        if (system := _outside_system(entry, found)) is not None:
            found[system.name] = system
    return found


def _outside_system(entry: EntryPoint, taken: Mapping[str, System]) -> System | None:
    """The system of an outside package, or None with a warning where it can't be used."""
    package = entry.dist.name if entry.dist is not None else entry.value
    problem: str
    try:
        system = entry.load()
    except Exception as error:  # whatever the package's own code raises
        problem = f"{type(error).__name__}: {error}"
    else:
        if isinstance(system, System) and system.name not in taken:
            return system
        problem = (
            f"there is another system named {system.name!r}"
            if isinstance(system, System)
            else f"expected a System at {entry.value}, got a {type(system).__name__}"
        )
    warnings.warn(
        f"the system {entry.name!r} of the package {package} is left out ({problem}); update the package, or "
        f"remove it: pip uninstall {package}",
        UserWarning,
        stacklevel=2,
    )
    return None


def find_system(name: str) -> System:
    """The system of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in systems():
        raise ValueError(f"system: expected one of {', '.join(systems())}, got {name!r}")
    return systems()[name]


def build_head(name: str, config: Any) -> Head:
    """An untrained head from a configuration of the system `name`: its dataclass, or parsed JSON.

    Raises:
        ValueError: the system is unknown, or the configuration has unknown keys or wrong values.
    """
    system = find_system(name)
    return system.head(config if isinstance(config, system.config) else system.read_config(config))


def build_field(name: str, config: Any) -> RayField:
    """Only the network, for systems whose head is a ray field; arguments as for `build_head`.

    Raises:
        ValueError: as `build_head`, or the system's head is not a ray field.
    """
    system = find_system(name)
    if system.field is None:
        raise ValueError(f"system: the head of {name!r} is not a ray field")
    return system.field(config if isinstance(config, system.config) else system.read_config(config))


def check_sizes(value: Any, where: str) -> None:
    """Checks every number and list of a configuration from a file against the limits.

    Raises:
        ValueError: an integer outside of [0, LARGEST], or a list that is empty or longer than LONGEST.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            check_sizes(item, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        if not 1 <= len(value) <= LONGEST:
            raise ValueError(f"{where}: expected 1 to {LONGEST} values, got {value!r}")
        for item in value:
            check_sizes(item, where)
    elif isinstance(value, int) and not isinstance(value, bool) and not 0 <= value <= LARGEST:
        raise ValueError(f"{where}: expected 0 to {LARGEST}, got {value}")


def read_torso(info: Any) -> Torso:
    """The untrained torso of a description that `Torso.describe` returned.

    Raises:
        ValueError: an unknown kind of torso, unknown keys or wrong values.
    """
    if isinstance(info, Mapping):
        for kind, read in TORSOS.items():
            if set(info) == {kind}:
                return read(info[kind])
    if not isinstance(info, Mapping) or set(info) != {"height", "width"}:
        raise ValueError(f"torso: expected height and width, or one of {', '.join(TORSOS)}, got {info!r}")
    return TorsoPlate(info["height"], info["width"])


def _read_layer(info: Any) -> Torso:
    check_sizes(info, "torso")
    return TorsoLayer(decode(TorsoLayerConfig, info, "torso"))


def _read_unet(info: Any) -> Torso:
    check_sizes(info, "torso")
    return UnetTorso(decode(UnetConfig, info, "torso.unet"))


def _read_field(info: Any) -> Torso:
    if not isinstance(info, Mapping) or set(info) != {"system", "config", "stands"}:
        raise ValueError(f"torso.field: expected system, config and stands, got {info!r}")
    network = build_field(str(info["system"]), info["config"])
    if not isinstance(network.encoder, PoseEncoder):
        raise ValueError("torso.field: expected a network conditioned on head_pose, got a head's network")
    return TorsoField(network, decode(TorsoFieldConfig, info["stands"], "torso.field.stands"))


TORSOS: dict[str, Callable[[Any], Torso]] = {
    "layer": _read_layer,
    "field": _read_field,
    "unet": _read_unet,
}
