"""What the command lines of `bench` share: their tables, by name, and tables as Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nldf_engine.apps.cli.command import UsageError
from nldf_engine.base.files import check_writable

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


def pairs_parser(
    program: str, about: str, examples: str, tables: Tables, frames: int, picture: str,
    everything: bool = False,
) -> argparse.ArgumentParser:  # fmt: skip
    """A parser of a table of avatars, each followed by its speaker's dataset.

    Args:
        program, about, examples, tables: see `parser_of`.
        frames: of each video, at most, where none are said.
        picture: what --picture shows.
        everything: whether "all" is a table, see `chosen`.
    """
    made = parser_of(program, about, examples, tables)
    names = f"{'all, or ' if everything else ''}one of {', '.join(tables)}"
    made.add_argument("table", metavar="TABLE", help=names)
    made.add_argument("pairs", metavar="AVATAR DATASET", type=Path, nargs="+", help="one pair or more")
    made.add_argument("--frames", type=int, default=frames, metavar="N", help=f"of each, at most ({frames})")
    made.add_argument("--split", default="heldout", help="of the datasets (heldout)")
    made.add_argument("--device", default="auto", help="where it renders (auto)")
    made.add_argument("--picture", type=Path, metavar="F", help=f"write {picture} there as a PNG")
    made.add_argument("--json", type=Path, metavar="F", help="write the numbers there as well")
    return made


def pairs_of(given: argparse.Namespace, least: int = 1, frames: int = 1) -> list[tuple[Path, Path]]:
    """The avatars and datasets that a `pairs_parser` was given; its outputs are checked too.

    Args:
        given: the arguments.
        least: pairs that are needed.
        frames: that are needed.

    Raises:
        UsageError: too few pairs or frames, an avatar without its dataset, avatars of one name, or a picture
            that is no PNG.
        FileProblem: an output can't be written.
    """
    if len(given.pairs) % 2:
        raise UsageError("each AVATAR is followed by the DATASET of its speaker; the last one has none")
    if len(given.pairs) < 2 * least:
        raise UsageError(f"give {least} AVATARs or more, each followed by the DATASET of its speaker")
    if given.frames < frames:
        raise UsageError(f"--frames must be at least {frames}; it is {given.frames}")
    names = [path.resolve().name for path in given.pairs[::2]]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"avatars must have different names, which rows are called by; two are {twice[0]!r}")
    if given.picture is not None and given.picture.suffix.lower() != ".png":
        raise UsageError(f"--picture is a PNG, as rows.png; it is {str(given.picture)!r}")
    for output in (given.picture, given.json):
        if output is not None:
            check_writable(output)
    return list(zip(given.pairs[::2], given.pairs[1::2], strict=True))


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
