"""`python -m bench.faces`: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.command import markdown
from bench.faces.compare import compare
from bench.timing import environment
from nldf_engine.apps.cli.command import UsageError
from nldf_engine.apps.cli.main import guarded
from nldf_engine.base.files import write_json

EXAMPLES = """examples:
    python -m bench.faces ada.mp4 bob.mp4 --frames 100
    python -m bench.faces ada.mp4 --json faces.json

It takes an environment with mediapipe 0.10.21 beside this package.
"""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        "python -m bench.faces", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
        description="Compares the networks of nldf_engine.faces with MediaPipe, on the frames of videos.",
    )  # fmt: skip
    made.add_argument("videos", metavar="VIDEO", type=Path, nargs="+", help="of a talking person")
    made.add_argument("--frames", type=int, default=100, metavar="N", help="of each, from the start (100)")
    made.add_argument("--json", type=Path, metavar="F", help="write the numbers there as well")
    return made


def run(given: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        UsageError: no frames are asked for.
    """
    if given.frames < 1:
        raise UsageError(f"--frames must be at least 1; it is {given.frames}")
    torch.set_num_threads(1)
    found = {}
    for number, video in enumerate(given.videos):
        found[f"{number + 1}"] = compare(video, given.frames)
        print(f"## {video.name}\n\n{markdown(found[f'{number + 1}'])}\n", flush=True)
    if given.json is not None:
        write_json(given.json, {"environment": environment(), "frames": given.frames, "videos": found})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 success, 1 a failure, in one line, 2 wrong usage, 130 after Ctrl-C."""
    given = parser().parse_args(arguments)
    return guarded("python -m bench.faces", lambda: run(given), lambda: "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
