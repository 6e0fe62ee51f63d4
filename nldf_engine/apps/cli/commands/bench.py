"""`nldf bench`: the benchmark suites of a source checkout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import Command, Json, UsageError, optional, save_results
from nldf_engine.base.errors import FileProblem, MissingBackend, NldfError


@dataclass(frozen=True)
class Bench(Command):
    """Time the kernels and models on this machine.

    Each suite is a file bench/bench_SUITE.py of the source folder; every kernel is checked against its
    PyTorch reference before it is timed, and speed-ups are ratios within one run. It takes some minutes; run
    nothing else meanwhile.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf bench",
        "nldf bench --quick",
        "nldf bench segments resmlp --json bench.json --report report",
    )
    when_stopped: ClassVar[str] = "no file was written: run the same command again"
    fills: ClassVar[tuple[str, ...]] = ("report",)

    suites: Annotated[tuple[str, ...], Positional, optional("[SUITE ...]")] = ()
    """which suites; by default all of them"""
    quick: bool = False
    """fewer cases, fewer rounds"""
    full: bool = False
    """every case, 512 x 512 frames and torch.compile too; takes far longer"""
    report: Annotated[Path | None, optional("FOLDER")] = None
    """write a page of tables and charts here, bench.html, which needs no other file"""
    json: Json = None
    """also write the results here"""

    def run(self) -> int:
        """Runs the suites, and prints a table.

        Raises:
            NldfError: a suite failed; the others' results are printed and written all the same.
        """
        if self.quick and self.full:
            raise UsageError("--quick and --full exclude each other")
        import importlib.util

        from nldf_engine.base.files import check_writable

        files = suite_files(self.suites)
        if self.report is not None:
            check_writable(self.report, folder=True)
        if importlib.util.find_spec("pytest_benchmark") is None:
            from nldf_engine.apps.cli.libraries import remedy

            raise MissingBackend("pytest-benchmark is not installed", remedy("pytest_benchmark"))
        from nldf_engine.apps.cli.bench_report import summary, write_page
        from nldf_engine.apps.cli.bench_run import run_suites

        found = run_suites(files, "quick" if self.quick else "full" if self.full else "normal")
        figures = found.to_json()
        print(summary(figures))
        save_results(self.json, figures)
        if self.report is not None:
            print(f"{write_page(self.report, figures)}: the report")
        if found.failed:
            raise NldfError(f"failed: {', '.join(found.failed)}; the errors are above")
        return 0


def suites_folder() -> Path:
    """Where the suites are: beside the package in a source folder."""
    import nldf_engine

    return Path(str(nldf_engine.__file__)).resolve().parent.parent / "bench"


def suite_files(names: tuple[str, ...]) -> list[Path]:
    """The files of the suites of these names, of all where there are none.

    Raises:
        FileProblem: the package was not installed from a source folder that is still there.
        UsageError: there is no suite of that name.
    """
    folder = suites_folder()
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
    return [found[name] for name in dict.fromkeys(names)] if names else list(found.values())
