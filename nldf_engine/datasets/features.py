"""Audio features kept beside a dataset, so that the next run need not make them again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.results import Results


def kept_features(path: Path, key: str, frames: int) -> np.ndarray | None:
    """Features written earlier for the same sound and front-end; None when there are none to trust.

    Args:
        path: `features_FRONTEND.safetensors` in the dataset's folder.
        key: of the sound and the front-end.
        frames: how many the dataset has.

    Returns:
        [frames, 16, D] float32.
    """
    found = Results(path.parent, key, shared=True).get(path.stem)
    value = None if found is None else found.tensors.get("features")
    if value is None:
        return None
    good = value.ndim == 3 and value.shape[0] == frames and value.dtype == np.float32
    return value if good and bool(np.isfinite(value).all()) else None


def keep_features(path: Path, key: str, value: np.ndarray) -> None:
    """Writes features for the next time; a dataset on a read-only or full disk goes without.

    Args:
        path: `features_FRONTEND.safetensors` in the dataset's folder.
        key: of the sound and the front-end.
        value: [T, 16, D] float32.
    """
    try:
        Results(path.parent, key, shared=True).put(path.stem, {"features": value})
    except (FileProblem, OSError):
        return
