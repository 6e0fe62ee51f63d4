"""`python -m bench.dfrf`: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.command import chosen, markdown, pairs_of, pairs_parser
from bench.dfrf.tables import TABLES, Subject, picture
from bench.timing import environment
from nldf_engine.apps.cli.main import guarded
from nldf_engine.base.files import write_json
from nldf_engine.media.pictures import write_picture

EXAMPLES = """examples:
    nldf train dfrf-small data/ada --base bases/ours --steps 1 -o avatars/ada
    nldf train dfrf-small data/bob --base bases/ours --steps 1 -o avatars/bob
    python -m bench.dfrf references avatars/ada data/ada avatars/bob data/bob --picture references.png

Each AVATAR is followed by the DATASET of its speaker. Avatars of one step show what a base makes of pictures
that it never saw, before anything is tuned.
"""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    about = "Measures what the reference pictures of DFRF avatars do."
    return pairs_parser("python -m bench.dfrf", about, EXAMPLES, TABLES, 8, "a frame of each")


def run(given: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        UsageError: there is no such table; and see `pairs_of`.
        FileProblem: a folder can't be used, or an output can't be written.
    """
    (name,) = chosen(given.table, TABLES)
    pairs = pairs_of(given, least=2)
    subjects = [Subject(*pair, given.frames, given.split, given.device) for pair in pairs]
    found = TABLES[name](subjects)
    print(f"## {name}\n\n{markdown(found)}\n", flush=True)
    if given.picture is not None:
        write_picture(given.picture, picture(subjects))
    if given.json is not None:
        write_json(given.json, {"environment": environment(), "frames": given.frames, name: found})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 success, 1 a failure, in one line, 2 wrong usage, 130 after Ctrl-C."""
    given = parser().parse_args(arguments)
    return guarded("python -m bench.dfrf", lambda: run(given), lambda: "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
