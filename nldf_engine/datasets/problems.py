"""One thing that is wrong with a folder, and how much it matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SEVERITIES = ("note", "warning", "severe", "error")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        where: the file, or the part of the video.
        what: what was measured or found, in a sentence without a full stop.
        remedy: what a person can do about it.
        severity: "note" (worth knowing), "warning" (the result suffers), "severe" (training makes
            little sense), "error" (unusable).

    Raises:
        ValueError: an unknown severity.
    """

    where: str
    what: str
    remedy: str
    severity: str = "error"

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(
                f"Problem: severity must be one of {', '.join(SEVERITIES)}, got {self.severity!r}"
            )

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}." + (
            f" To fix it: {self.remedy}." if self.remedy else ""
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON files, where the remedy's key is "mend"."""
        return {"where": self.where, "what": self.what, "mend": self.remedy, "severity": self.severity}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Problem:
        """What `to_json` wrote.

        Raises:
            TypeError, ValueError: an unknown or missing key, or an unknown severity.
        """
        known = {"remedy" if key == "mend" else key: str(value) for key, value in saved.items()}
        return cls(**known)
