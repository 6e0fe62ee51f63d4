"""`python -m bench.into`: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.into.measure import measure
from bench.timing import environment
from nldf_engine.apps.cli.command import UsageError
from nldf_engine.apps.cli.main import guarded
from nldf_engine.base.files import write_json
from nldf_engine.base.memory import keep_freed_memory
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.footage import footage_of
from nldf_engine.engine import Engine
from nldf_engine.media.video_writer import PRESETS
from nldf_engine.rendering.paste import REGIONS

EXAMPLES = """examples:
    python -m bench.into avatars/me data/speaker speaker.mp4
    python -m bench.into avatars/me data/speaker speaker.mp4 --region face --preset ultrafast --json into.json
"""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        "python -m bench.into", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
        description="Measures nldf render --into: by stage, all together, memory, the picture beside it.",
    )  # fmt: skip
    made.add_argument("avatar", metavar="AVATAR", type=Path, help="folder written by nldf train")
    made.add_argument("dataset", metavar="DATASET", type=Path, help="that it was trained on")
    made.add_argument("video", metavar="VIDEO", type=Path, help="that the dataset was prepared from")
    made.add_argument("--sound", metavar="F", type=Path, help="what is said (the dataset's own sound)")
    made.add_argument(
        "--region", metavar="NAME", nargs="*", default=["head"], help="how much of the picture (head)"
    )
    made.add_argument("--preset", metavar="NAME", nargs="*", default=list(PRESETS[2:]), help="of the encoder")
    made.add_argument("--frames", metavar="N", type=int, default=200, help="how many (200)")
    made.add_argument("--json", metavar="F", type=Path, help="write the numbers there as well")
    return made


def run(given: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        UsageError: an unknown region or preset, or no frames.
    """
    for name, known in (("region", tuple(REGIONS)), ("preset", PRESETS)):
        if wrong := [value for value in getattr(given, name) if value not in known]:
            raise UsageError(f"--{name} is of {', '.join(known)}; it is {wrong[0]}")
    if given.frames < 1:
        raise UsageError(f"--frames must be at least 1; it is {given.frames}")
    keep_freed_memory()
    dataset = Dataset.open(given.dataset)
    footage, engine = footage_of(dataset, given.video), Engine.load(given.avatar)
    sound = given.sound or given.dataset / "audio.wav"
    found = [measure(engine, footage, sound, name, given.frames, given.preset) for name in given.region]
    if given.json is not None:
        write_json(given.json, {"environment": environment(), "runs": found})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 success, 1 a failure, in one line, 2 wrong usage, 130 after Ctrl-C."""
    given = parser().parse_args(arguments)
    return guarded("python -m bench.into", lambda: run(given), lambda: "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
