"""bench/gpu.sh in Python: `python -m bench.gpu [--dry-run]`, or one part of it by name."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench.gpu import parts, report, steps


def ladder(file: str) -> None:
    """See `bench.gpu.ladder`."""
    from bench.gpu.ladder import main

    main(file)


def training_ladder(file: str) -> None:
    """See `bench.gpu.training_ladder`."""
    from bench.gpu.training_ladder import main

    main(file)


def frames(file: str, matmul: str, *rest: str) -> None:
    """See `bench.gpu.frames`."""
    from bench.gpu.frames import frames

    frames(file, matmul, *rest)


def train(file: str, dataset: str, folder: str, preset: str, *budget: str) -> None:
    """See `bench.gpu.frames.training`."""
    from bench.gpu.frames import training

    training(file, dataset, folder, preset, **dict(item.split("=") for item in budget))


PARTS: dict[str, Callable[..., object]] = {
    "environment": parts.environment,
    "check-import": parts.check_import,
    "pytest-must-run": parts.pytest_must_run,
    "matmul": parts.matmul,
    "small": parts.small,
    "fits": parts.fits,
    "ladder": ladder,
    "training-ladder": training_ladder,
    "frames": frames,
    "train": train,
    "merge": report.merge,
}


def main(arguments: list[str]) -> int:
    """Runs one part, or all steps; the exit code."""
    if arguments and arguments[0] in PARTS:
        PARTS[arguments[0]](*arguments[1:])
        return 0
    if arguments not in ([], ["--dry-run"]):
        print("usage: [OUT=folder] bash bench/gpu.sh [--dry-run]", file=sys.stderr)
        return 2
    return steps.run_all(dry="--dry-run" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
