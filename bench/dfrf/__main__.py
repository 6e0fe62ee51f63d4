"""`python -m bench.dfrf`: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.command import chosen, markdown, parser_of
from bench.dfrf.tables import TABLES, Subject, picture
from bench.timing import environment
from nldf_engine.apps.cli.command import UsageError
from nldf_engine.apps.cli.main import guarded
from nldf_engine.base.files import check_writable, write_json
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
    made = parser_of(
        "python -m bench.dfrf", "Measures what the reference pictures of DFRF avatars do.", EXAMPLES, TABLES
    )
    made.add_argument("table", metavar="TABLE", help=f"one of {', '.join(TABLES)}")
    made.add_argument("pairs", metavar="AVATAR DATASET", type=Path, nargs="+", help="two or more")
    made.add_argument("--frames", type=int, default=8, metavar="N", help="frames of each video, at most (8)")
    made.add_argument("--split", default="heldout", help="of the datasets (heldout)")
    made.add_argument("--device", default="auto", help="where it renders (auto)")
    made.add_argument("--picture", type=Path, metavar="F", help="write a frame of each there as a PNG")
    made.add_argument("--json", type=Path, metavar="F", help="write the numbers there as well")
    return made


def run(given: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        UsageError: there is no such table, an avatar without its dataset, one avatar alone, or avatars of one
            name.
        FileProblem: a folder can't be used, or an output can't be written.
    """
    (name,) = chosen(given.table, TABLES)
    if len(given.pairs) % 2 or len(given.pairs) < 4:
        raise UsageError("give two AVATARs or more, each followed by the DATASET of its speaker")
    if given.frames < 1:
        raise UsageError(f"--frames must be at least 1; it is {given.frames}")
    avatars = [path.resolve().name for path in given.pairs[::2]]
    if len(set(avatars)) < len(avatars):
        raise UsageError(f"avatars must have different names, which rows are called by; got {avatars}")
    for output in (given.picture, given.json):
        if output is not None:
            check_writable(output)
    pairs = zip(given.pairs[::2], given.pairs[1::2], strict=True)
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
