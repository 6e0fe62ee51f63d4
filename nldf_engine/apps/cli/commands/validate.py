"""`nldf validate`: what is wrong with a folder, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import Command, Json, save_results, value
from nldf_engine.base.errors import FileProblem, NldfError


@dataclass(frozen=True)
class Validate(Command):
    """Say what is wrong with a dataset, foreign folder or avatar, and how to fix it.

    Every file is opened and compared with the others: counts, sizes, shapes, finite numbers. Exit
    code 0 means that it can be used, with or without notes and warnings.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf validate data/speaker",
        "nldf validate avatars/me --json problems.json",
    )

    reads: ClassVar[tuple[str, ...]] = ("path",)

    path: Annotated[Path, Positional, value("PATH")]
    """dataset, folder of AD-NeRF, DFRF, RAD-NeRF or ER-NeRF, or avatar"""
    json: Json = None
    """also write the problems here"""

    def run(self) -> int:
        """Prints a line for each problem.

        Raises:
            NldfError: one of them is an error; it names the first.
        """
        from nldf_engine.datasets.validate import validate

        problems = validate(self.path)
        for problem in problems:
            print(problem)
        errors = [problem for problem in problems if problem.severity == "error"]
        if not problems:
            print(f"{self.path}: nothing is wrong with it")
        found = [problem.to_json() for problem in problems]
        save_results(self.json, {"path": str(self.path), "errors": len(errors), "problems": found})
        if errors:
            first = FileProblem(errors[0].where, errors[0].what, errors[0].remedy)
            raise NldfError(f"{first}{f' ({len(errors)} errors in all)' if len(errors) > 1 else ''}")
        if problems and all(problem.severity != "severe" for problem in problems):
            print(f"{self.path}: usable as it is; the remedies above would make it better")
        return 0
