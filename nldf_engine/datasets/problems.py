"""One thing that is wrong with a folder, and how much it matters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("note", "warning", "severe", "error")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        where: the file, or the part of the video.
        what: what was measured or found, in a sentence without a full stop.
        mend: what a person can do about it.
        severity: "note" (worth knowing), "warning" (the result suffers), "severe" (training makes
            little sense), "error" (unusable).

    Raises:
        ValueError: an unknown severity.
    """

    where: str
    what: str
    mend: str
    severity: str = "error"

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(
                f"Problem: severity must be one of {', '.join(SEVERITIES)}, got {self.severity!r}"
            )

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}." + (
            f" To mend it: {self.mend}." if self.mend else ""
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return asdict(self)
