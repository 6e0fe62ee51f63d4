"""What the command lines of `bench` share: their tables, by name, and tables as Markdown."""

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


def shown(value: Any) -> str:
    """A cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else "-" if value is None else str(value)


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    """Rows by name as a table."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {label} | {' | '.join(shown(row.get(name)) for name in names)} |" for label, row in rows.items()
    ]
    return "\n".join(lines)
