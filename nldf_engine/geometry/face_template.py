"""The face mesh's 478 landmarks on a face at rest, as 3D points."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_name("face_template.csv")


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    return np.loadtxt(TABLE, delimiter=",", comments="#")


def rest_landmarks() -> np.ndarray:
    """float64 [478, 3] in head space, metres: the face at rest, lips closed and eyes open."""
    return _table().copy()
