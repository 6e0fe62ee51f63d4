"""The papers' tables: what each row changes, and what the paper reports for it.

A paper is a module here, with `TABLES`, functions of a scale by the name on the command line, and
`differences`, in what a scale differs from the paper's sizes; `NAMES` may hold titles and digits of columns
of its own. The numbers are the papers' own, copied from their tables; where a paper only states its choice
(how many segments, points, which lambda) there are none.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType

from bench.reproduce.scales import Difference, Scale
from bench.reproduce.table import Row, Table

__all__ = ["NAMES", "TABLES", "Row", "Table", "differences"]

# In the order of the command line's list: what the project is named after first.
MODULES: list[ModuleType] = sorted(
    (importlib.import_module(f"{__name__}.{part.name}") for part in pkgutil.iter_modules(__path__)),
    key=lambda module: (not module.__name__.endswith(".nldf"), module.__name__),
)
TABLES: dict[str, Callable[[Scale], Table]] = {
    name: make for module in MODULES for name, make in module.TABLES.items()
}
NAMES: Mapping[str, tuple[str, int]] = {
    name: shown for module in MODULES for name, shown in getattr(module, "NAMES", {}).items()
}


def differences(scale: Scale, names: Iterable[str]) -> list[Difference]:
    """In what the tables of these names differ from the papers' sizes, at a scale."""
    wanted = set(names)
    found = [module.differences(scale) for module in MODULES if wanted & set(module.TABLES)]
    return list(dict.fromkeys(line for lines in found for line in lines))
