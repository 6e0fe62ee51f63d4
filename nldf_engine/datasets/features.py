"""Audio features kept beside a dataset, so that the next run need not make them again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_path


def kept_features(path: Path, key: str, frames: int) -> np.ndarray | None:
    """Features written earlier for the same sound and front-end; None when there are none to trust."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as stored:
            if (stored.metadata() or {}).get("key") != key:
                return None
            value = stored.get_tensor("features")
    except (SafetensorError, OSError, ValueError):
        return None
    good = value.ndim == 3 and value.shape[0] == frames and value.dtype == np.float32
    return value if good and bool(np.isfinite(value).all()) else None


def keep_features(path: Path, key: str, value: np.ndarray) -> None:
    """Writes features for the next time; a dataset on a read-only or full disk goes without."""
    from safetensors.numpy import save

    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(save({"features": np.ascontiguousarray(value)}, {"key": key}))
    except (FileProblem, OSError):
        return  # a dataset on a read-only or full disk: they are computed again next time
