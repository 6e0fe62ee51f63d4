"""Do the same muscles move? Errors of action units, from landmarks alone.

This is no FACS coder: each value is one distance of the face mesh that its unit changes, turned upright and
in outer eye distances, named after the unit. `optional/openface.py` compares OpenFace's own intensities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nldf_engine.evaluation.metrics.inputs import checked_landmarks
from nldf_engine.evaluation.metrics.statistics import mean
from nldf_engine.geometry.face_mesh import LEFT_EYE_OUTER, RIGHT_EYE_OUTER

Points = np.ndarray
Y = 1
LOWER_UNITS = ("AU10", "AU12", "AU15", "AU17", "AU24", "AU25", "AU26")
UPPER_UNITS = ("AU01", "AU02", "AU04", "AU45")


def _apart(points: Points, a: int, b: int) -> np.ndarray:
    return np.asarray(np.linalg.norm(points[:, a] - points[:, b], axis=1))


def _drop(points: Points, a: int, b: int) -> np.ndarray:
    """How far b is below a."""
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
    return {"au_lower": mean_over(each, LOWER_UNITS), "au_upper": mean_over(each, UPPER_UNITS), **each}


def mean_over(each: Mapping[str, float | None], names: tuple[str, ...]) -> float | None:
    """The mean of the named units' values, as far as they are known; None where none is."""
    return mean(value for value in (each[name] for name in names) if value is not None)
