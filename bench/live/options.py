"""What every measurement is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Avatars, how long each measurement lasts, and how far the larger ones go.

    Args:
        avatars: folders.
        seconds: of each measurement by the clock.
        interruptions: how many.
        most: sessions at once, at most.
        workers: processes for those.
        minutes: of simulated time.
        size: of the pictures there, pixels.
        picture: where a browser's screenshot goes, or None.
        browser: the only one that is measured; None for all that are there.
        flags: further ones of `nldf serve`, where one avatar's latency or several sessions are measured.
    """

    avatars: list[Path]
    seconds: float = 20.0
    interruptions: int = 100
    most: int = 6
    workers: int = 2
    minutes: float = 30.0
    size: int = 16
    picture: Path | None = None
    browser: str | None = None
    flags: tuple[str, ...] = ()
