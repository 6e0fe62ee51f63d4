"""What the command lines of `bench` share: their tables, by name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from nldf_engine.apps.cli.command import UsageError

Tables = Mapping[str, Callable[..., Any]]
"""What makes each table, whose docstring begins with a line that says what it shows."""


def parser_of(program: str, about: str, examples: str, tables: Tables) -> argparse.ArgumentParser:
    """A parser without flags, whose help lists the tables."""
    wide = max(map(len, tables)) + 2
    listed = "\n".join(
        f"    {name:<{wide}}{(make.__doc__ or '').splitlines()[0]}" for name, make in tables.items()
    )
    return argparse.ArgumentParser(
        program, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=examples,
        description=f"{about}\n\n{listed}",
    )  # fmt: skip


def chosen(given: str, tables: Tables, everything: bool = False) -> list[str]:
    """The names of the tables that are wanted: one, or all of them for "all" where there is such a word.

    Raises:
        UsageError: there is no such table.
    """
    if everything and given == "all":
        return list(tables)
    if given not in tables:
        words = ["all", *tables] if everything else [*tables]
        raise UsageError(f"there is no table {given!r}; there are {', '.join(words)}")
    return [given]
