"""`python -m bench.lips`: the command line."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.command import chosen, parser_of
from bench.lips.metrics import NAMES, means
from bench.lips.tables import PRESET, TABLES, Options, Row
from bench.timing import environment
from nldf_engine.apps.cli.command import UsageError
from nldf_engine.apps.cli.main import guarded
from nldf_engine.base.files import write_json

EXAMPLES = """examples:
    python -m bench.lips look-ahead data/speaker
    python -m bench.lips distribution data/one data/another --json distribution.json

DATASETs are folders of nldf prepare. In each cell: frames of the training part that the predictions' network
did not learn from, which is where to choose by / the held-out part, for information.
"""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    about = "Trains speech networks on prepared speakers and tells how lips follow."
    made = parser_of("python -m bench.lips", about, EXAMPLES, TABLES)
    made.add_argument("table", metavar="TABLE", help=f"one of {', '.join(TABLES)}")
    made.add_argument("datasets", metavar="DATASET", type=Path, nargs="+", help="folder of nldf prepare")
    made.add_argument("--json", type=Path, metavar="F", help="write the numbers there as well")
    made.add_argument("--steps", type=int, metavar="N", help="optimiser steps, to try it out")
    made.add_argument("--cache", type=Path, metavar="DIR", help="keep the sound's features there")
    return made


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a table."""
    lines = [f"| | {' | '.join(title for title, _ in NAMES.values())} |", "|---" * (len(NAMES) + 1) + "|"]
    for row in rows:
        cells = [
            f"{row.unseen[name]:.{digits}f} / {row.heldout[name]:.{digits}f}"
            for name, (_, digits) in NAMES.items()
        ]
        lines.append(f"| {' | '.join([row.label, *cells])} |")
    return "\n".join(lines)


def mean_rows(found: Sequence[Sequence[Row]]) -> list[Row]:
    """The mean over speakers of each row."""
    return [
        Row(same[0].label, means([row.unseen for row in same]), means([row.heldout for row in same]))
        for same in zip(*found, strict=True)
    ]


def run(given: argparse.Namespace) -> int:
    """Trains, measures and prints; returns the exit code.

    Raises:
        UsageError: there is no such table, or a count below one.
    """
    chosen(given.table, TABLES)
    if given.steps is not None and given.steps < 1:
        raise UsageError(f"--steps must be at least 1; it is {given.steps}")
    options, found = Options(given.steps, given.cache), {}
    for path in given.datasets:
        found[path.name] = list(TABLES[given.table](path, options))
        print(f"## {given.table}: {path.name}\n\n{markdown(found[path.name])}\n", flush=True)
    if len(found) > 1:
        print(f"## {given.table}: mean\n\n{markdown(mean_rows(list(found.values())))}")
    if given.json is not None:
        rows = {name: [dataclasses.asdict(row) for row in table] for name, table in found.items()}
        told = {"table": given.table, "preset": PRESET, "environment": environment()}
        write_json(given.json, {**told, "speakers": rows})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 success, 1 a failure, in one line, 2 wrong usage, 130 after Ctrl-C."""
    given = parser().parse_args(arguments)
    return guarded("python -m bench.lips", lambda: run(given), lambda: "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
