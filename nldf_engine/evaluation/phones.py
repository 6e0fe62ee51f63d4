"""When each speech sound is spoken: a table of phones, as a forced aligner or a synthesiser knows them."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from nldf_engine.base.errors import FileProblem

COLUMNS = ("start_seconds", "end_seconds", "phone")
LARGEST_FILE = 16 << 20  # bytes
MOST_PHONES = 500_000
LONGEST_NAME = 16
OVERLAP = 1e-3
"""Seconds by which a phone may begin before the last one ends: aligners round."""
REMEDY = f"write a CSV table with the header {','.join(COLUMNS)} and one phone a line, in their order"


@dataclass(frozen=True)
class Phone:
    """One speech sound.

    Args:
        start: seconds from the first frame of the video.
        end: seconds, after `start`.
        name: as ARPABET, IPA or espeak writes it; silence may be empty.
    """

    start: float
    end: float
    name: str


def read_phones(path: str | Path) -> tuple[Phone, ...]:
    """The phones of a CSV or TSV file, UTF-8, with the columns `start_seconds`, `end_seconds` and `phone`.

    Seconds count from the first frame of the whole video, not of the part that is evaluated. Other columns
    are ignored; times that no phone covers belong to none.

    Raises:
        FileProblem: it is missing, too large, no such table, empty, or a time is not finite, below zero,
            not after its phone's start, or before the end of the phone before.
    """
    path = Path(path)
    if not path.is_file():
        raise FileProblem(path, "there is no such file", REMEDY)
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise FileProblem(path, f"it has {size} bytes, expected at most {LARGEST_FILE >> 20} MiB", REMEDY)
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            header = stream.readline()
            delimiter = "\t" if "\t" in header else ","
            names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
            if not set(COLUMNS) <= set(names):
                shown = header.strip()[:80]
                raise FileProblem(
                    path, f"its first line is {shown!r}, expected the columns {', '.join(COLUMNS)}", REMEDY
                )
            rows = csv.reader(stream, delimiter=delimiter)
            places = [names.index(name) for name in COLUMNS]
            phones: list[Phone] = []
            for row in rows:
                if row:
                    last = phones[-1].end if phones else 0.0
                    phones.append(_phone(path, rows.line_num + 1, row, places, last))
                if len(phones) > MOST_PHONES:
                    raise FileProblem(path, f"it holds more than {MOST_PHONES} phones", "give fewer phones")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileProblem(path, f"it is no table that can be read ({error})", REMEDY) from error
    if not phones:
        raise FileProblem(path, "it holds no phone", REMEDY)
    return tuple(phones)


def _phone(path: Path, line: int, row: list[str], places: list[int], last: float) -> Phone:
    """One line's phone; `last` is the end of the phone before."""

    def wrong(what: str) -> FileProblem:
        return FileProblem(path, f"line {line}: {what}", REMEDY)

    if len(row) <= max(places):
        raise wrong(f"expected {max(places) + 1} columns, got {len(row)}")
    cells = [row[place].strip() for place in places]
    try:
        start, end = float(cells[0]), float(cells[1])
    except ValueError:
        raise wrong(f"expected two times in seconds, got {cells[0]!r} and {cells[1]!r}") from None
    if not (math.isfinite(start) and math.isfinite(end)):
        raise wrong(f"expected finite times, got {start} and {end}")
    if start < 0:
        raise wrong(f"expected a start of at least 0 seconds, got {start:g}")
    if end <= start:
        raise wrong(f"expected an end after its start of {start:g} s, got {end:g} s")
    if start < last - OVERLAP:
        raise wrong(f"it starts at {start:g} s, before the last phone ends at {last:g} s")
    if len(cells[2]) > LONGEST_NAME:
        raise wrong(f"expected a phone of at most {LONGEST_NAME} letters, got {len(cells[2])}")
    return Phone(start, end, cells[2])
