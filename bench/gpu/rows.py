"""What was measured, a row a line, written as soon as it is known: a stopped run keeps what it has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def add(file: str | Path, row: Row) -> None:
    """Appends a row, on the disk when this returns; prints it as well."""
    with open(file, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    print(json.dumps(row), flush=True)


def read(file: str | Path) -> list[Row]:
    """The rows of a file, none where there is no file; a last line that was cut off is left out."""
    path = Path(file)
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
