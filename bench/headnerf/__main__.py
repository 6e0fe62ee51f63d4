"""`python -m bench.headnerf`: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from bench.command import chosen, markdown, pairs_of, pairs_parser
from bench.headnerf.tables import (
    APART_AT_LEAST,
    APART_GOAL,
    CODES,
    TABLES,
    Options,
    Subject,
    check_picture,
    swap_picture,
)
from bench.timing import environment
from nldf_engine.apps.cli.main import guarded
from nldf_engine.base.files import write_json
from nldf_engine.media.pictures import write_picture

EXAMPLES = """examples:
    nldf train headnerf-small data/ada data/bob -o avatars/ada
    python -m bench.headnerf all avatars/ada data/ada avatars/ada-2 data/bob --json headnerf.json
    python -m bench.headnerf lips avatars/ada data/ada

Each AVATAR is followed by the DATASET of its speaker, whose held-out part drives it. `all` makes every table.
Of the swap matrix, rows are the code that was changed and columns what was measured; a code should move its
own measure at least 3 times, and at best 5 times, as far as any other code does.
"""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    about = "Measures what the codes of HeadNeRF avatars do."
    return pairs_parser(
        "python -m bench.headnerf", about, EXAMPLES, TABLES, 150, "the swaps", everything=True
    )


def printed(table: str, found: dict[str, Any]) -> str:
    """What a table says, as Markdown."""
    if table == "lips":
        return markdown(found)
    if isinstance(reason := found.get("reason"), str):
        return reason
    if table in ("views", "exact-views"):
        return "\n\n".join(f"{name}\n\n{markdown(rows)}" for name, rows in found.items())
    factors = ", ".join(
        f"{code} ({CODES[code]}) {'-' if value is None else f'{value:.1f}'}"
        for code, value in found["margins"].items()
    )
    wanted = f"at least {APART_AT_LEAST:g} wanted, {APART_GOAL:g} the goal"
    return f"{markdown(found['mean'])}\n\nown over the largest other, {wanted}: {factors}"


def run(given: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        UsageError: there is no such table, an avatar without its dataset, avatars of one name, too few
            frames, or a picture that is no PNG.
        FileProblem: a folder can't be used, or an output can't be written.
    """
    names = chosen(given.table, TABLES, everything=True)
    pairs = pairs_of(given, frames=2)
    options = Options(given.frames, given.split, device=given.device)
    subjects = [Subject(*pair, options) for pair in pairs]
    if given.picture is not None:
        check_picture(subjects)
    tables = {}
    for name in names:
        tables[name] = TABLES[name](subjects)
        print(f"## {name}\n\n{printed(name, tables[name])}\n", flush=True)
    if given.picture is not None:
        write_picture(given.picture, swap_picture(subjects))
    if given.json is not None:
        write_json(given.json, {"environment": environment(), "frames": given.frames, "tables": tables})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 success, 1 a failure, in one line, 2 wrong usage, 130 after Ctrl-C."""
    given = parser().parse_args(arguments)
    return guarded("python -m bench.headnerf", lambda: run(given), lambda: "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
