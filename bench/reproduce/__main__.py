"""`python -m bench.reproduce`: the command line."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.reproduce.scales import SCALES, Scale
from bench.reproduce.tables import TABLES
from nldf_engine.apps.cli.command import UsageError, check_device
from nldf_engine.apps.cli.main import guarded

if TYPE_CHECKING:
    from nldf_engine.apps.batch.attempt import Workers

EXAMPLES = """examples:
    python -m bench.reproduce table1 --scale tiny -o runs/tiny         a synthetic speaker, seconds
    python -m bench.reproduce table1 table2 table3 --scale cpu --data data/speaker -o runs/tables
    python -m bench.reproduce table1 --scale cpu --data data/speaker -o runs/tables --seeds 3
    python -m bench.reproduce all --scale cpu --data data/speaker -o runs/tables --workers 2
    python -m bench.reproduce all --scale paper --plan                 what would be trained

The same command again goes on where it was stopped, and makes the report anew of what is there.
"""
STOPPED = "nothing is lost: the same command again goes on from the last checkpoint"


def parser() -> argparse.ArgumentParser:
    """The flags."""

    listed = "\n".join(
        f"    {name:<20}{(make.__doc__ or '').splitlines()[0]}" for name, make in TABLES.items()
    )
    made = argparse.ArgumentParser(
        "python -m bench.reproduce", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
        description=f"Trains what the papers' tables compare, and writes the tables.\n\ntables:\n{listed}",
    )  # fmt: skip
    made.add_argument("tables", nargs="+", metavar="TABLE", help="which, or all")
    made.add_argument(
        "--scale", choices=list(SCALES), default="cpu", help="how large everything is (default: %(default)s)"
    )
    made.add_argument(
        "--data",
        type=Path,
        metavar="DATASET",
        help="folder of nldf prepare or nldf synthetic; at scale tiny a synthetic speaker is made",
    )
    made.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of cells and report")
    made.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="how often each row is trained (default: %(default)s)",
    )
    made.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    made.add_argument("--weights", type=Path, metavar="FOLDER", help="public weights, for LPIPS")
    made.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="train N cells at a time, a process each (default: one, here)",
    )
    made.add_argument("--ray", metavar="ADDRESS", help="train the cells on a Ray cluster, as nldf batch does")
    made.add_argument("--cell", metavar="NAME", help="only train this cell, and report nothing")
    made.add_argument("--plan", action="store_true", help="only say what would be trained")
    made.add_argument("--report", action="store_true", help="train nothing: report what is there")
    return made


def run(given: argparse.Namespace) -> int:
    """Trains, measures and reports what the flags say; returns the exit code.

    Raises:
        UsageError: the flags do not go together.
    """
    names = list(TABLES) if "all" in given.tables else list(dict.fromkeys(given.tables))
    for name in names:
        if name not in TABLES:
            raise UsageError(f"there is no table {name!r}; there are {', '.join(TABLES)}, all")
    if given.seeds < 1:
        raise UsageError(f"--seeds must be at least 1; it is {given.seeds}")
    check_device(given.device)
    scale = SCALES[given.scale]
    tables = [TABLES[name](scale) for name in names]
    from bench.reproduce.report import cells_of, plan, report
    from bench.reproduce.side_by_side import train_side_by_side

    if given.plan:
        print(plan(tables, given.seeds))
        return 0
    if given.output is None:
        raise UsageError("-o DIR is missing: where the cells and the report go")
    if given.data is None and not scale.speaker:
        raise UsageError(
            f"--scale {scale.name} needs --data DATASET; make one with nldf prepare VIDEO -o DATASET"
        )
    from bench.reproduce.lab import Lab, with_needed
    from nldf_engine.datasets import open_dataset

    folder = given.output
    data = open_dataset(given.data or _speaker(folder / "speaker", scale))
    lab = Lab(folder, data, scale, given.device, given.weights)
    cells = cells_of(tables, given.seeds)
    if given.cell is not None:
        lab.train_all([cell for cell in with_needed(cells) if cell.name(lab.hash) == given.cell])
        return 0
    if (workers := _workers(given)) is not None and not given.report:
        train_side_by_side(lab, cells, _arguments(given, data.path), workers)
    command = f"python -m bench.reproduce {shlex.join(names)} --scale {scale.name} --seeds {given.seeds}"
    print(report(lab, tables, given.seeds, command, training=not given.report))
    return 0


def _workers(given: argparse.Namespace) -> Workers | None:
    """What trains cells side by side; None where they are trained here, one after the other."""
    if given.ray is not None:
        from nldf_engine.apps.batch.cluster import Cluster

        return Cluster(given.ray)
    if given.workers is None:
        return None
    if given.workers < 1:
        raise UsageError(f"--workers must be at least 1; it is {given.workers}")
    from nldf_engine.apps.batch.processes import Processes

    return Processes(given.workers)


def _arguments(given: argparse.Namespace, data: Path) -> list[str]:
    """The flags under which a process finds the same cells."""
    flags = ["--scale", given.scale, "--data", str(data.absolute()), "-o", str(given.output.absolute())]
    flags += ["--seeds", str(given.seeds), "--device", given.device]
    flags += ["--weights", str(given.weights.absolute())] if given.weights is not None else []
    return [*given.tables, *flags]


def _speaker(path: Path, scale: Scale) -> Path:
    """The synthetic speaker of a scale that needs no dataset; made once."""
    from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset

    if not path.is_dir():
        make_synthetic_dataset(path, SyntheticConfig(**scale.speaker))
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 success, 1 a failure, in one line, 2 wrong usage, 130 after Ctrl-C."""
    given = parser().parse_args(arguments)
    return guarded("python -m bench.reproduce", lambda: run(given), lambda: STOPPED)


if __name__ == "__main__":
    sys.exit(main())
