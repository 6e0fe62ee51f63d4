"""`nldf bench`: the benchmark suites of a source checkout."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.command import Command, UsageError, value
from nldf_engine.base.errors import FileProblem, MissingBackend


@dataclass(frozen=True)
class Bench(Command):
    """Time the kernels and models on this machine.

    Each suite is a file bench/bench_SUITE.py of the source folder; every kernel is checked against its
    slow twin before it is timed, and speed-ups are ratios within one run.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf bench",
        "nldf bench segments resmlp --json figures.json",
    )
    when_stopped: ClassVar[str] = "no figures were written: run the same command again"

    suites: Annotated[tuple[str, ...], Positional, value("SUITE")] = ()
    """which suites; by default all of them"""
    json: Annotated[Path, value("FILE")] = Path(".benchmarks/latest.json")
    """where the figures go"""

    def run(self) -> int:
        """Runs the suites in an interpreter of their own, and prints where the figures are."""
        import importlib.util
        import subprocess

        files = suite_files(self.suites)
        if importlib.util.find_spec("pytest_benchmark") is None:
            from nldf_engine.apps.libraries import mend

            raise MissingBackend("pytest-benchmark is not installed", mend("pytest_benchmark"))
        from nldf_engine.base.files import atomic_path

        with atomic_path(self.json) as figures:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", *map(str, files)),
                    *("--benchmark-only", "--benchmark-disable-gc", f"--benchmark-json={figures}", "-q"),
                    *("-p", "no:cacheprovider", "-o", "timeout=0"),
                ],
                cwd=files[0].parent.parent,
                check=False,
            )
            if done.returncode:
                raise FileProblem(files[0].parent, "a suite failed; its output stands above")
        print(f"{self.json}: the figures of {len(files)} suites")
        return 0


def suite_files(names: tuple[str, ...]) -> list[Path]:
    """The files of the suites of these names, of all where there are none.

    Raises:
        FileProblem: the package was not installed from a source folder that is still there.
        UsageError: there is no suite of that name.
    """
    import nldf_engine

    folder = Path(str(nldf_engine.__file__)).resolve().parent.parent / "bench"
    found = {path.stem.removeprefix("bench_"): path for path in sorted(folder.glob("bench_*.py"))}
    if not found:
        raise FileProblem(
            folder,
            "there are no benchmark suites; they come with the source, not with the installed package",
            "run nldf bench where the package was installed with pip install -e",
        )
    for name in names:
        if name not in found:
            raise UsageError(f"there is no suite {name!r}; there are {', '.join(found)}")
    return [found[name] for name in names] if names else list(found.values())
