"""`nldf doctor`: what this installation can do, what is missing, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nldf_engine.apps.cli.command import Command, Json, save_results
from nldf_engine.base.errors import NldfError


@dataclass(frozen=True)
class Doctor(Command):
    """Say what this installation can do, what is missing, and how to fix it.

    Exit code 0 means that rendering works on this machine: a picture was rendered and encoded just
    now. What only some commands need is listed, and is no failure.
    """

    examples: ClassVar[tuple[str, ...]] = ("nldf doctor", "nldf doctor --json doctor.json")

    json: Json = None
    """also write the findings here"""

    def run(self) -> int:
        """Examines the installation and prints the findings.

        Raises:
            NldfError: rendering does not work.
        """
        from nldf_engine.apps.cli.examination import describe, examine

        findings = examine()
        print(describe(findings))
        save_results(self.json, findings)
        if not findings["rendering"]["works"]:
            raise NldfError(f"rendering does not work: {findings['rendering']['detail']}")
        return 0
