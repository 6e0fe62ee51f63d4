"""Do the same muscles move? Errors of action units: from landmarks, and from OpenFace's own tables.

The landmark figures are no FACS coder: each is one distance of the face mesh that its unit changes, turned
upright and in outer eye distances. They are named after the unit that they follow. Where OpenFace was
run over both videos, its intensities are compared as AD-NeRF 4.3 does.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.evaluation.metrics.alignment import checked_landmarks
from nldf_engine.evaluation.metrics.quality import mean
from nldf_engine.geometry.face_mesh import LEFT_EYE_OUTER, RIGHT_EYE_OUTER

Points = np.ndarray
Y = 1
LOWER_UNITS = ("AU10", "AU12", "AU15", "AU17", "AU24", "AU25", "AU26")
UPPER_UNITS = ("AU01", "AU02", "AU04", "AU45")
OPENFACE_LOWER = ("AU10", "AU12", "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26")
OPENFACE_LIMIT = 256 << 20  # bytes


def _apart(points: Points, a: int, b: int) -> np.ndarray:
    return np.asarray(np.linalg.norm(points[:, a] - points[:, b], axis=1))


def _drop(points: Points, a: int, b: int) -> np.ndarray:
    """How far b lies below a."""
    return np.asarray(points[:, b, Y] - points[:, a, Y])


# Right and left, averaged. Numbers of the face mesh: brows 107/336 inner, 70/300 outer ends; eyes 133/362
# inner corners; lids 159-145 and 386-374; nose 2 under the septum; lips 0, 13, 14, 17 in the middle from
# above, 61/291 corners; chin 152.
UNITS: Mapping[str, Callable[[Points], np.ndarray]] = {
    "AU01": lambda p: (_drop(p, 107, 133) + _drop(p, 336, 362)) / 2,  # inner brows raised
    "AU02": lambda p: (_drop(p, 70, 33) + _drop(p, 300, 263)) / 2,  # outer brows raised
    "AU04": lambda p: -_apart(p, 107, 336),  # brows drawn together
    "AU45": lambda p: -(_apart(p, 159, 145) + _apart(p, 386, 374)) / 2,  # lids closed
    "AU10": lambda p: -_drop(p, 2, 0),  # upper lip raised
    "AU12": lambda p: _apart(p, 61, 291),  # corners pulled apart
    "AU15": lambda p: (_drop(p, 13, 61) + _drop(p, 13, 291)) / 2,  # corners drawn down
    "AU17": lambda p: -_drop(p, 17, 152),  # chin raised
    "AU24": lambda p: -(_drop(p, 0, 13) + _drop(p, 14, 17)) / 2,  # lips pressed thin
    "AU25": lambda p: _apart(p, 13, 14),  # lips apart
    "AU26": lambda p: _drop(p, 2, 152),  # jaw dropped
}


def action_units(landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """The face's units, each [T] float64 in outer eye distances; higher is more of its action.

    Args:
        landmarks: [T, 478, 2] pixels, y down; NaN where no face was found.

    Raises:
        ValueError: another shape.
    """
    points = checked_landmarks(landmarks, "landmarks")
    eyes = points[:, LEFT_EYE_OUTER] - points[:, RIGHT_EYE_OUTER]
    size = np.linalg.norm(eyes, axis=1)
    size = np.where(size > 0, size, np.nan)
    cos, sin = eyes[:, 0] / size, eyes[:, 1] / size
    turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
    upright = np.einsum("tij,tlj->tli", turn, points) / size[:, None, None]
    return {name: unit(upright) for name, unit in UNITS.items()}


def action_unit_errors(rendered: np.ndarray, real: np.ndarray) -> dict[str, float | None]:
    """Mean absolute error of every unit, and of the lower and the upper face, in outer eye distances.

    Args:
        rendered: [T, 478, 2] pixels; NaN where no face was found.
        real: [T, 478, 2], likewise.

    Returns:
        `au_lower`, `au_upper` (means over their units) and one entry a unit; None without a frame that
        has both faces.
    """
    ours, theirs = action_units(rendered), action_units(real)
    if len(rendered) != len(real):
        raise ValueError(
            f"rendered: expected {len(real)} frames, as many as the real ones, got {len(rendered)}"
        )
    each = {name: mean(np.abs(ours[name] - theirs[name])) for name in UNITS}
    return {"au_lower": _over(each, LOWER_UNITS), "au_upper": _over(each, UPPER_UNITS), **each}


def _over(each: Mapping[str, float | None], names: tuple[str, ...]) -> float | None:
    return mean(value for value in (each[name] for name in names) if value is not None)


def read_openface(path: str | Path) -> dict[str, np.ndarray]:
    """Intensities of OpenFace's csv: `AU01`... each [T] float64 in 0..5, NaN where no face was found.

    Raises:
        FileProblem: missing, too large, or without intensities (`AU.._r`).
    """
    path = Path(path)
    mend = "write it with OpenFace: FeatureExtraction -f VIDEO -aus"
    if not path.is_file():
        raise FileProblem(path, "there is no such file", mend)
    if path.stat().st_size > OPENFACE_LIMIT:
        raise FileProblem(path, f"it has more than {OPENFACE_LIMIT >> 20} MiB", mend)
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = csv.reader(stream, skipinitialspace=True)
            names = [name.strip() for name in next(rows, [])]
            wanted = {n[:-2]: k for k, n in enumerate(names) if n.startswith("AU") and n.endswith("_r")}
            if not wanted:
                raise FileProblem(path, "it has no column of intensities (AU01_r, ...)", mend)
            flag = names.index("success") if "success" in names else None
            table = [[float(cell) for cell in row] for row in rows if row]
    except (ValueError, UnicodeDecodeError, csv.Error) as error:
        raise FileProblem(path, f"it is no table of numbers ({error})", mend) from error
    if not table or any(len(row) != len(names) for row in table):
        raise FileProblem(path, f"its rows don't all have the {len(names)} columns of its header", mend)
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
    lower = tuple(name for name in shared if name in OPENFACE_LOWER)
    if not lower:
        raise FileProblem(
            rendered, f"it shares no unit of the lower face with {real}", "run OpenFace with -aus"
        )
    count = min(lengths)
    each = {name: mean(np.abs(ours[name][:count] - theirs[name][:count])) for name in shared}
    return {"au_openface": _over(each, lower), **each}
