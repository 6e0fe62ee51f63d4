"""`python -m bench.gaussian_landmark`: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.command import chosen, markdown, parser_of
from bench.gaussian_landmark.avatars import (
    Subject,
    distribution,
    distribution_picture,
    overlay,
    sliders,
    speed,
    torso,
)
from bench.gaussian_landmark.fields import encodings
from bench.gaussian_landmark.mouths import carrying
from bench.gaussian_landmark.speech import PRESET, SEEDS, Options, encoders, mouth
from bench.timing import environment
from nldf_engine.apps.cli.command import UsageError
from nldf_engine.apps.cli.main import guarded
from nldf_engine.base.files import write_json
from nldf_engine.media.pictures import write_picture

EXAMPLES = """examples:
    python -m bench.gaussian_landmark encoders data/speaker
    python -m bench.gaussian_landmark carrying data/speaker --frames 100
    python -m bench.gaussian_landmark encodings data/speaker --seeds 3 --weights weights --json encodings.json
    python -m bench.gaussian_landmark distribution avatars/me data/speaker --split heldout --picture pca.png
    python -m bench.gaussian_landmark sliders avatars/me data/speaker

Tables of an avatar take its folder, and the DATASET of its speaker behind it; the others the DATASET alone.
Torsos of several avatars are compared by nldf evaluate AVATAR1 AVATAR2 DATASET --split validation.
"""
OF_DATASET: dict[str, Callable[[Path, Options], dict[str, Any]]] = {
    "encoders": encoders,
    "encodings": encodings,
    "mouth": mouth,
    "carrying": carrying,
}
OF_AVATAR: dict[str, Callable[[Subject], dict[str, Any]]] = {
    "distribution": distribution,
    "sliders": sliders,
    "torso": torso,
    "speed": lambda subject: {subject.avatar.name: speed(subject)},
}
OF_AVATAR["speed"].__doc__ = speed.__doc__
TABLES: dict[str, Callable[..., dict[str, Any]]] = {**OF_DATASET, **OF_AVATAR}
PICTURES = {"distribution": distribution_picture, "sliders": overlay}


def parser() -> argparse.ArgumentParser:
    """The flags."""
    about = f"Measures what {PRESET} is made of, and what its avatars do."
    made = parser_of("python -m bench.gaussian_landmark", about, EXAMPLES, TABLES)
    made.add_argument("table", metavar="TABLE", help=f"one of {', '.join(TABLES)}")
    made.add_argument("paths", metavar="PATH", type=Path, nargs="+", help="[AVATAR] DATASET")
    made.add_argument("--steps", type=int, metavar="N", help="optimiser steps of each training")
    made.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"trainings of a cell ({SEEDS})")
    made.add_argument("--split", default="validation", help="frames that are measured (validation)")
    made.add_argument("--frames", type=int, default=25, metavar="N", help="those, at most (25)")
    made.add_argument("--weights", type=Path, metavar="DIR", help="folder of the public weights of losses")
    made.add_argument("--cache", type=Path, metavar="DIR", help="keep the sound's features there")
    made.add_argument("--device", default="auto", help="where avatars render (auto)")
    made.add_argument(
        "--picture", type=Path, metavar="F",
        help="write a PNG there: distribution's principal components, sliders' frames with their landmarks",
    )  # fmt: skip
    made.add_argument("--json", type=Path, metavar="F", help="write the numbers there as well")
    return made


def check(given: argparse.Namespace) -> None:
    """Checks the flags.

    Raises:
        UsageError: there is no such table, other paths than it takes, or a count below one.
    """
    chosen(given.table, TABLES)
    wanted = ["DATASET"] if given.table in OF_DATASET else ["AVATAR", "DATASET"]
    if len(given.paths) != len(wanted):
        raise UsageError(f"{given.table} takes {' '.join(wanted)}; {len(given.paths)} paths were given")
    for name in ("steps", "seeds", "frames"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1; it is {value}")
    if given.picture is not None and given.table not in PICTURES:
        raise UsageError(f"--picture is for {' and '.join(PICTURES)}; {given.table} draws none")


def run(given: argparse.Namespace) -> int:
    """Trains, measures and prints; returns the exit code.

    Raises:
        UsageError: see `check`.
    """
    check(given)
    options = Options(
        given.steps, given.seeds, given.split, given.frames, given.cache, given.weights, given.device
    )
    if given.table in OF_DATASET:
        found = OF_DATASET[given.table](given.paths[0], options)
    else:
        subject = Subject(*given.paths, options)
        found = OF_AVATAR[given.table](subject)
        if given.picture is not None:
            write_picture(given.picture, PICTURES[given.table](subject))
    print(f"## {given.table}: {given.paths[-1].name}\n\n{markdown(found)}\n", flush=True)
    if given.json is not None:
        settings = {name: getattr(options, name) for name in ("steps", "seeds", "split", "frames")}
        told = {"table": given.table, "preset": PRESET, "settings": settings, "environment": environment()}
        write_json(given.json, {**told, "rows": found})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 success, 1 a failure, in one line, 2 wrong usage, 130 after Ctrl-C."""
    given = parser().parse_args(arguments)
    return guarded("python -m bench.gaussian_landmark", lambda: run(given), lambda: "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
