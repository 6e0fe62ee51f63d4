"""68 landmarks (`.lms` files) <-> the 478 of a face mesh, and how far the eyes are open."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from nldf_engine.geometry.face_mesh import MARKS

# Landmarks of the mesh's lip ring that the 68 lack, between two that they have: (new, from, to, share).
BETWEEN = (
    *((185, 61, 39, 1 / 3), (40, 61, 39, 2 / 3), (409, 291, 269, 1 / 3), (270, 291, 269, 2 / 3)),
    *((146, 61, 181, 1 / 3), (91, 61, 181, 2 / 3), (375, 291, 405, 1 / 3), (321, 291, 405, 2 / 3)),
)
EYES = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47))
COUNT = 68
PIXEL = 0.5  # their landmarks count whole pixels; in ours the first pixel's centre is at 0.5
OPEN = 0.28  # lid gap over eye width of an open eye, where only a blink's strength is known
LARGEST_BLINK = 2.0  # of OpenFace's AU45: stronger ones are as closed


def read_marks(path: Path) -> np.ndarray:
    """float64 [68, 2] x, y of a `.lms` file, in pixels of the layout.

    Raises:
        ValueError: it holds anything else.
    """
    values = np.array(path.read_text(encoding="utf-8", errors="replace").split(), np.float64)
    if values.size != 2 * COUNT or not np.isfinite(values).all():
        raise ValueError(f"it must hold {COUNT} lines of x and y, and holds {values.size} numbers")
    return values.reshape(COUNT, 2)


@lru_cache(maxsize=1)
def _rest() -> np.ndarray:
    """[478, 4] homogeneous points of a face at rest."""
    from nldf_engine.geometry.face_template import rest_landmarks

    rest = rest_landmarks()
    return np.concatenate([rest, np.ones((len(rest), 1))], 1)


def to_mesh(marks: np.ndarray) -> np.ndarray:
    """float32 [T, 478, 2] of landmarks [T, 68, 2].

    The 68 stand on their own places, the rest of the lip ring between them. Everything else is where an
    affine camera puts a face at rest that fits the 68 best: an estimate, which nothing trains on.
    """
    rest = _rest()
    camera = np.linalg.pinv(rest[list(MARKS)]) @ marks  # [T, 4, 2]
    mesh = rest @ camera
    mesh[:, list(MARKS)] = marks
    for new, a, b, share in BETWEEN:
        mesh[:, new] = mesh[:, a] + share * (mesh[:, b] - mesh[:, a])
    return mesh.astype(np.float32)


def to_marks(mesh: np.ndarray) -> np.ndarray:
    """[T, 68, 2] of landmarks [T, 478, 2]."""
    return mesh[:, list(MARKS)]


def eye_openness(marks: np.ndarray) -> np.ndarray:
    """float32 [T] gap between the lids over the width of the eye, mean of both, of landmarks [T, 68, 2]."""
    eyes = []
    for a, b, c, d, e, f in EYES:
        gap = np.linalg.norm(marks[:, b] - marks[:, f], axis=1) + np.linalg.norm(
            marks[:, c] - marks[:, e], axis=1
        )
        eyes.append(gap / 2 / np.maximum(np.linalg.norm(marks[:, a] - marks[:, d], axis=1), 1e-6))
    return np.clip(np.mean(eyes, axis=0), 0, 1).astype(np.float32)


def from_blinks(blinks: np.ndarray) -> np.ndarray:
    """float32 [T] eye openness of AU45 strengths [T], as ER-NeRF reads them: clipped to 0..2."""
    return (OPEN * (1 - np.clip(blinks, 0, LARGEST_BLINK) / LARGEST_BLINK)).astype(np.float32)


def read_blinks(path: Path) -> np.ndarray:
    """float64 [N] the column AU45_r of OpenFace's csv, whose header has a space after each comma.

    Raises:
        ValueError: there is no such column, or a row without a number in it.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    names = [name.strip() for name in lines[0].split(",")] if lines else []
    if "AU45_r" not in names:
        raise ValueError(f"it has no column AU45_r; its columns are {', '.join(names[:6]) or 'none'}")
    column = names.index("AU45_r")
    try:
        made = np.array([float(line.split(",")[column]) for line in lines[1:] if line.strip()])
    except (IndexError, ValueError) as error:
        raise ValueError(f"a row has no number in the column AU45_r ({error})") from error
    if not np.isfinite(made).all():
        raise ValueError("the column AU45_r holds a value that is not finite")
    return made
