"""`python -m bench.scaling`: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.command import chosen, parser_of
from bench.scaling.cluster import node_lost, stopped
from bench.scaling.costs import costs
from bench.scaling.options import Options
from bench.scaling.processes import processes
from bench.scaling.renders import stretches, workers
from bench.timing import environment
from nldf_engine.apps.cli.main import guarded
from nldf_engine.base.files import write_json

TABLES: dict[str, Callable[[Options], dict[str, Any]]] = {
    "processes": processes, "workers": workers, "stretches": stretches, "costs": costs,
    "node-lost": node_lost, "stopped": stopped,
}  # fmt: skip
EXAMPLES = """examples:
    python -m bench.scaling processes -o runs/scaling --picture curves.png
    python -m bench.scaling workers -o runs/scaling --jobs 6 --seconds 6
    python -m bench.scaling stretches -o runs/scaling
    python -m bench.scaling costs -o runs/scaling
    python -m bench.scaling node-lost -o runs/scaling --jobs 20      needs Ray (extra ray)
    python -m bench.scaling stopped -o runs/scaling --jobs 20
"""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    usual = Options(Path())
    made = parser_of("python -m bench.scaling", "Measures several processes and machines.", EXAMPLES, TABLES)
    made.add_argument("table", metavar="TABLE", help=f"one of {', '.join(TABLES)}")
    made.add_argument("-o", "--output", type=Path, metavar="DIR", required=True, help="folder for all of it")
    for name, kind, text in (
        ("preset", str, "of the runs"), ("steps", int, "of the runs"), ("jobs", int, "renders of a batch"),
        ("seconds", float, "of speech in each"), ("size", int, "of the pictures, pixels"),
    ):  # fmt: skip
        value = getattr(usual, name)
        made.add_argument(f"--{name}", type=kind, default=value, metavar="N", help=f"{text} ({value})")
    made.add_argument("--picture", type=Path, metavar="F.png", help="write the curves there")
    made.add_argument("--json", type=Path, metavar="F", help="write the numbers there as well")
    return made


def run(given: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        UsageError: there is no such table.
    """
    (name,) = chosen(given.table, TABLES)
    options = Options(
        given.output.absolute(), given.preset, given.steps, given.jobs, given.seconds, given.size,
        given.picture,
    )  # fmt: skip
    found = TABLES[name](options)
    for row, values in found.items():
        print(f"{row}: " + ", ".join(f"{key} {_shown(value)}" for key, value in values.items()))
    if given.json is not None:
        write_json(given.json, {"environment": environment(), name: found})
    return 0


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 success, 1 a failure, in one line, 2 wrong usage, 130 after Ctrl-C."""
    given = parser().parse_args(arguments)
    return guarded("python -m bench.scaling", lambda: run(given), lambda: "run the same command again")


if __name__ == "__main__":
    sys.exit(main())
