"""The record of who agreed to an avatar of themselves."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

from nldf_engine.base.json import decode

KINDS = ("given", "no-person", "unrecorded")
LONGEST = 500
_PATTERN = re.compile(r"\s*(?P<name>.+?)\s*,\s*(?P<date>\d{4}-\d{2}-\d{2})\s*,\s*(?P<statement>.+?)\s*", re.S)


@dataclass(frozen=True)
class Consent:
    """Who agreed to an avatar, when, and to what. It is a statement of the avatar's maker, not a proof.

    Args:
        kind: "given" (by the person named), "no-person" (the speaker is synthetic), or "unrecorded".
        name, date, statement: of the person; the date as YYYY-MM-DD. Empty unless the kind is "given".

    Raises:
        ValueError: an unknown kind, or a "given" one without name, date or statement.
    """

    kind: str = "unrecorded"
    name: str = ""
    date: str = ""
    statement: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        texts = {"name": self.name, "date": self.date, "statement": self.statement}
        for key, text in texts.items():
            if not isinstance(text, str) or len(text) > LONGEST or not (text.isprintable()):
                raise ValueError(f"{key} must be one line of at most {LONGEST} characters")
            if (self.kind == "given") != bool(text.strip()):
                needs = "needs" if self.kind == "given" else "takes no"
                raise ValueError(f"kind {self.kind!r} {needs} {key}, got {text!r}")
        if self.kind == "given":
            try:
                datetime.date.fromisoformat(self.date)
            except ValueError as error:
                raise ValueError(f"date must be a day as YYYY-MM-DD, got {self.date!r} ({error})") from error

    @classmethod
    def parse(cls, text: str) -> Consent:
        """The record that a person types: "NAME, YYYY-MM-DD, STATEMENT".

        Raises:
            ValueError: it has another form, or the date is none.

        Example:
            >>> Consent.parse("Ada Lovelace, 2026-01-31, may be used in lectures").date
            '2026-01-31'
        """
        found = _PATTERN.fullmatch(text)
        if not found:
            raise ValueError(f'consent: expected "NAME, YYYY-MM-DD, STATEMENT", got {text!r}')
        try:
            return cls("given", **found.groupdict())
        except ValueError as error:
            raise ValueError(f"consent: {error}") from error

    @classmethod
    def from_json(cls, value: Any) -> Consent:
        """The record as `to_json` wrote it; None reads as "unrecorded".

        Raises:
            ValueError: it is something else.
        """
        if value is None:
            return cls()
        return decode(cls, value, "consent")

    def to_json(self) -> dict[str, str]:
        """The fields that say something."""
        texts = {"name": self.name, "date": self.date, "statement": self.statement}
        return {"kind": self.kind, **{key: text for key, text in texts.items() if text}}

    def __str__(self) -> str:
        if self.kind == "given":
            return f"{self.name} consented on {self.date}: {self.statement}"
        return "no real person is shown" if self.kind == "no-person" else "no consent was recorded"
