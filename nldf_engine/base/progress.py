"""Progress with an estimate of what is left, on everything that takes over two seconds.

On a terminal it is a live bar; elsewhere (a log, CI) a plain line every ten seconds. All of it goes
to stderr, so that stdout stays free for results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")
QUIET_SECONDS = 2.0
LOG_EVERY_SECONDS = 10.0


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`.

    Example:
        >>> clock(75), clock(3725)
        ('1:15', '1:02:05')
    """
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Bar:
    """A progress bar: `with Bar("train", total=2000) as bar: bar.step(note="31.2 dB")`.

    Args:
        label: what is being done, as a short noun phrase.
        total: number of steps; None where it is unknown (then no estimate is shown).
        unit: what one step is, in the singular.
    """

    def __init__(self, label: str, total: int | None, unit: str = "step") -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.note = 0, ""
        self._begun: float | None = 0.0  # share done before; None until the first step gives it
        self._start = self._last_drawn = time.monotonic()
        self._live = sys.stderr.isatty()
        self._shown = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._draw(final=True)

    def start_at(self, done: int) -> None:
        """Sets the number of steps that were finished earlier, which do not count in the estimate."""
        self.done = done
        self._begun = done / self.total if self.total else (None if done else 0.0)

    def step(self, amount: int = 1, note: str = "", fraction: float | None = None) -> None:
        """Counts `amount` steps; `note` is written at the end of the line.

        `fraction` in [0, 1] overrides the share done where a budget other than the steps rules (time).
        """
        self.done += amount
        self.note = note or self.note
        if self._begun is None:
            self._begun = fraction or 0.0
        now = time.monotonic()
        every = 0.1 if self._live else LOG_EVERY_SECONDS
        if now - self._start > QUIET_SECONDS and now - self._last_drawn > every:
            self._last_drawn = now
            self._draw(fraction=fraction)

    def _draw(self, fraction: float | None = None, final: bool = False) -> None:
        spent = time.monotonic() - self._start
        if fraction is None and self.total:
            fraction = self.done / self.total
        parts = [self.label]
        if final:
            parts.append(f"{self.done} {self.unit}s in {clock(spent)}")
        elif fraction is not None and (self._begun or 0) < fraction <= 1:
            share = (fraction - (self._begun or 0)) / (1 - (self._begun or 0))
            left = spent * (1 - share) / share
            filled = int(24 * fraction)
            meter = "█" * filled + "·" * (24 - filled) if self._live else f"{100 * fraction:.0f} %"
            of = f"/{self.total}" if self.total else ""
            parts.append(f"{meter} {self.done}{of} {self.unit}s, {clock(left)} left")
        else:
            parts.append(f"{self.done} {self.unit}s, {clock(spent)} spent")
        if self.note:
            parts.append(self.note)
        line = "  ".join(parts)
        self._shown = True
        if self._live:
            sys.stderr.write("\r\x1b[2K" + line + ("\n" if final else ""))
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()


def track(items: Iterable[T], label: str, total: int | None = None, unit: str = "step") -> Iterator[T]:
    """Iterates over `items` and shows a `Bar`.

    Example:
        >>> sum(track([1, 2, 3], "adding"))
        6
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Bar(label, total, unit) as bar:
        for item in items:
            yield item
            bar.step()
