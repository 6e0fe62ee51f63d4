"""Action units by OpenFace: mean absolute error of its intensities over two videos, as in AD-NeRF 4.3.

OpenFace is run by the user over both videos; its csv files are compared here.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.evaluation.metrics.action_units import mean_over
from nldf_engine.evaluation.metrics.statistics import mean

LOWER_UNITS = ("AU10", "AU12", "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26")
LARGEST_FILE = 256 << 20  # bytes


def read_openface(path: str | Path) -> dict[str, np.ndarray]:
    """Intensities of OpenFace's csv: `AU01`... each [T] float64 in 0..5, NaN where no face was found.

    Raises:
        FileProblem: missing, too large, or without intensities (`AU.._r`).
    """
    path = Path(path)
    remedy = "write it with OpenFace: FeatureExtraction -f VIDEO -aus"
    if not path.is_file():
        raise FileProblem(path, "there is no such file", remedy)
    if path.stat().st_size > LARGEST_FILE:
        raise FileProblem(path, f"it has more than {LARGEST_FILE >> 20} MiB", remedy)
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = csv.reader(stream, skipinitialspace=True)
            names = [name.strip() for name in next(rows, [])]
            wanted = {n[:-2]: k for k, n in enumerate(names) if n.startswith("AU") and n.endswith("_r")}
            if not wanted:
                raise FileProblem(path, "it has no column of intensities (AU01_r, ...)", remedy)
            flag = names.index("success") if "success" in names else None
            table = [[float(cell) for cell in row] for row in rows if row]
    except (ValueError, UnicodeDecodeError, csv.Error) as error:
        raise FileProblem(path, f"it is no table of numbers ({error})", remedy) from error
    if not table or any(len(row) != len(names) for row in table):
        raise FileProblem(path, f"its rows don't all have the {len(names)} columns of its header", remedy)
    values = np.array(table)
    found = np.ones(len(values), bool) if flag is None else values[:, flag] > 0
    return {name: np.where(found, values[:, column], np.nan) for name, column in sorted(wanted.items())}


def openface_errors(rendered: str | Path, real: str | Path) -> dict[str, float | None]:
    """Mean absolute error of OpenFace's intensities between two of its tables (AD-NeRF 4.3).

    Frames are paired by their number; those that only one table has, or without a face, are left out.

    Returns:
        `au_openface` over the lower face's units that both tables have, and one entry a unit.

    Raises:
        FileProblem: a table can't be read, their lengths differ by more than a tenth, or they share no
            unit of the lower face.
    """
    ours, theirs = read_openface(rendered), read_openface(real)
    lengths = [len(next(iter(table.values()))) for table in (ours, theirs)]
    if abs(lengths[0] - lengths[1]) > 0.1 * max(lengths):
        raise FileProblem(
            rendered,
            f"it has {lengths[0]} frames, and {real} has {lengths[1]}",
            "run OpenFace over two videos of the same stretch at the same rate",
        )
    shared = [name for name in ours if name in theirs]
    lower = tuple(name for name in shared if name in LOWER_UNITS)
    if not lower:
        raise FileProblem(
            rendered, f"it shares no unit of the lower face with {real}", "run OpenFace with -aus"
        )
    count = min(lengths)
    each = {name: mean(np.abs(ours[name][:count] - theirs[name][:count])) for name in shared}
    return {"au_openface": mean_over(each, lower), **each}
