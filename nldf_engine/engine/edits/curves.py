"""Curves: numbers that change along a clip, from a CSV or JSON file or from arrays."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import read_text

LARGEST_FILE = 64 << 20
REMEDY = (
    'write a CSV with a header of column names, or JSON like {"time": [0, 1], "yaw": [0, 10]}; a column '
    "'time' (seconds) or 'frame' says when, else each row is one frame"
)


@dataclass(frozen=True, eq=False)
class Curve:
    """Columns of numbers over time, joined by straight lines and held beyond their ends.

    Two are equal only where they are the same object.

    Args:
        frames: [N] when, in frames of 25 a second, rising.
        columns: each [N].

    Raises:
        ValueError: no rows, columns of other lengths, numbers that are not finite, or times that don't rise.
    """

    frames: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.frames) or not np.isfinite(self.frames).all() or (np.diff(self.frames) <= 0).any():
            raise ValueError("curve: expected at least one row, and times that rise from row to row")
        for name, values in self.columns.items():
            if values.shape != self.frames.shape:
                raise ValueError(
                    f"curve: column {name!r} has {len(values)} numbers, and {len(self.frames)} were expected"
                )
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
                raise ValueError(f"curve: column {name!r} holds NaN or infinity in row {row}")

    def at(self, name: str, index: Tensor) -> Tensor | None:
        """[N] float64 of a column at the frames `index` [N]; None where there is no such column."""
        if name not in self.columns:
            return None
        return torch.from_numpy(np.interp(index.cpu().numpy(), self.frames, self.columns[name]))

    def check(self, known: Iterable[str]) -> Curve:
        """The curve itself.

        Raises:
            ValueError: it has a column of another name than the `known` ones.
        """
        if unknown := sorted(set(self.columns) - set(known)):
            raise ValueError(
                f"curve: there is no column {unknown[0]!r}; expected {', '.join(known)}, and time or frame"
            )
        return self


def curve_of(columns: Mapping[str, Any]) -> Curve:
    """A curve of arrays; one named 'time' (seconds) or 'frame' says when, else each entry is one frame.

    Raises:
        ValueError: see `Curve`, or both of them are given.
    """
    arrays = {name.strip().lower(): np.asarray(values, np.float64) for name, values in columns.items()}
    if any(values.ndim != 1 for values in arrays.values()):
        raise ValueError("curve: expected a list of numbers for each column")
    if "time" in arrays and "frame" in arrays:
        raise ValueError("curve: expected 'time' or 'frame', got both")
    rows = max((len(values) for values in arrays.values()), default=0)
    when = arrays.pop("time") * FPS if "time" in arrays else arrays.pop("frame", np.arange(float(rows)))
    return Curve(when, arrays)


def load_curve(path: str | Path) -> Curve:
    """The curve in a .csv or .json file.

    Raises:
        FileProblem: the file is missing, too large, of another kind, or holds no curve.
    """
    path = Path(path)
    if not path.is_file():
        raise FileProblem(path, "there is no such file", REMEDY)
    if path.stat().st_size > LARGEST_FILE:
        raise FileProblem(path, f"it has {path.stat().st_size} bytes, more than a curve can have", REMEDY)
    kind = path.suffix.lower()
    try:
        text = read_text(path)
        if kind == ".json":
            value = json.loads(text)
            if not isinstance(value, dict):
                raise ValueError(f"expected an object of columns, got a {type(value).__name__}")
            return curve_of(value)
        if kind != ".csv":
            raise FileProblem(path, f"curve files end in .csv or .json, not {kind!r}", REMEDY)
        return curve_of(_table(text))
    except (ValueError, TypeError, OSError, csv.Error) as error:
        raise FileProblem(path, f"it holds no usable curve ({error})", REMEDY) from error


def _table(text: str) -> dict[str, list[float]]:
    """The columns of a CSV by the names in its header.

    Raises:
        ValueError: it is none, with the line and the column that it shows in.
    """
    first = text.lstrip().partition("\n")[0]
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if mark in first and "," not in first:
            raise ValueError(f"its columns are separated by {name}; use commas, and points within numbers")
    rows = [
        (number, row)
        for number, row in enumerate(csv.reader(io.StringIO(text)), 1)
        if any(cell.strip() for cell in row)
    ]
    if len(rows) < 2:
        raise ValueError("expected a header and at least one row of numbers")
    header = [cell.strip() for cell in rows[0][1]]
    if len(set(header)) != len(header) or any(_is_number(cell) for cell in header):
        raise ValueError(f"the first line must be names of columns, each once; it is {','.join(rows[0][1])}")
    columns: dict[str, list[float]] = {name: [] for name in header}
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(f"line {number} has {len(row)} values, the header {len(header)}")
        for name, cell in zip(header, row, strict=True):
            if not _is_number(cell):
                what = "is empty" if not cell.strip() else f"is no finite number: {cell.strip()!r}"
                raise ValueError(f"line {number}, column {name!r} {what}")
            columns[name].append(float(cell))
    return columns


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
