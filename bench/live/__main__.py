"""`python -m bench.live`: the command line."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.command import chosen, parser_of
from bench.live.attack import attack
from bench.live.concurrency import concurrency
from bench.live.drift import drift
from bench.live.end_to_end import BROWSERS, browser_table
from bench.live.faces import faces
from bench.live.faults import faults
from bench.live.interruptions import interruptions
from bench.live.latency import latency
from bench.live.options import Options
from bench.live.rtc import webrtc
from bench.timing import environment
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.apps.cli.main import guarded
from nldf_engine.base.files import write_json

TABLES: dict[str, Callable[[Options], dict[str, Any]]] = {
    "latency": latency, "interruptions": interruptions, "concurrency": concurrency, "faces": faces,
    "browser": browser_table, "webrtc": webrtc, "drift": drift, "attack": attack,
    "faults": faults,
}  # fmt: skip
EXAMPLES = """examples:
    python -m bench.live latency
    python -m bench.live concurrency --most 5 --workers 2 --seconds 20 --json live.json
    python -m bench.live latency avatars/me --serve "--into speaker.mp4 --poses data/speaker"
    python -m bench.live faces avatars/me avatars/you
    python -m bench.live browser --picture page.png
    python -m bench.live faults tiny --json faults.json

Each starts a server of its own on loopback. Without an AVATAR it is the bundled one.
"""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    usual = Options([])
    made = parser_of("python -m bench.live", "Measures nldf serve over loopback.", EXAMPLES, TABLES)
    made.add_argument("table", metavar="TABLE", help=f"all, or one of {', '.join(TABLES)}")
    made.add_argument("avatars", metavar="AVATAR", type=Path, nargs="*", help="folders (the bundled one)")
    for name, kind, text in (
        ("seconds", float, "of each measurement by the clock"), ("interruptions", int, "how many"),
        ("most", int, "sessions at once"), ("workers", int, "processes for those"),
        ("minutes", float, "of simulated time in drift, and of attacks"),
        ("size", int, "of the pictures in drift, pixels"),
    ):  # fmt: skip
        value = getattr(usual, name)
        made.add_argument(f"--{name}", type=kind, default=value, metavar="N", help=f"{text} ({value:g})")
    made.add_argument("--picture", type=Path, metavar="F.png", help="write the browser's screenshot there")
    made.add_argument(
        "--browser", choices=[*BROWSERS], help="the only one that is measured (all that are there)"
    )
    made.add_argument(
        "--serve",
        metavar="FLAGS",
        default="",
        help="more flags of nldf serve, for latency and concurrency",
    )
    made.add_argument("--json", type=Path, metavar="F", help="write the numbers there as well")
    return made


def printed(found: dict[str, Any], depth: int = 0) -> str:
    """Names and numbers, nested ones in one line."""
    lines = []
    for name, value in found.items():
        if isinstance(value, dict):
            inner = ", ".join(f"{key} {_number(item)}" for key, item in value.items())
            lines.append(f"{name}: {inner}")
        else:
            lines.append(f"{name}: {_number(value)}")
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def run(given: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        UsageError: there is no such table.
    """
    names = chosen(given.table, TABLES, everything=True)
    options = Options(
        given.avatars or [bundled_avatar()], given.seconds, given.interruptions, given.most, given.workers,
        given.minutes, given.size, given.picture, given.browser, tuple(shlex.split(given.serve)),
    )  # fmt: skip
    tables = {}
    for name in names:
        tables[name] = TABLES[name](options)
        print(f"## {name}\n\n{printed(tables[name])}\n", flush=True)
    if given.json is not None:
        write_json(given.json, {"environment": environment(), "tables": tables})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 success, 1 a failure, in one line, 2 wrong usage, 130 after Ctrl-C."""
    given = parser().parse_args(arguments)
    return guarded("python -m bench.live", lambda: run(given), lambda: "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
