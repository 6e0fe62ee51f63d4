"""Head poses of a foreign folder or transforms file, for rendering with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import read_json
from nldf_engine.datasets.foreign.kinds import detect


def driving_poses(spec: Any) -> Any:
    """[T, 4, 4] float32 poses where `spec` names a foreign folder or transforms file; else `spec` as it is.

    Raises:
        FileProblem: the folder or file can't be used.
    """
    if not isinstance(spec, str | Path):
        return spec
    path = Path(spec)
    if path.is_dir():
        if (path / "track.safetensors").exists() or detect(path) is None:
            return spec
        from nldf_engine.datasets.foreign.dataset import ForeignDataset

        opened = ForeignDataset.open(path)
        return opened.poses[opened.indices("all")]
    if path.suffix.lower() != ".json" or not path.is_file():
        return spec
    value = read_json(path)
    if not isinstance(value, dict):
        return spec
    from nldf_engine.datasets.foreign.geometry import off_rigid, rigid, turn

    try:
        poses = np.array([frame["transform_matrix"] for frame in value["frames"]], np.float64)
        if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
            raise ValueError(f"transform_matrix must be 4 x 4, got {poses.shape}")
        if not np.isfinite(poses).all() or off_rigid(poses).max() > 1e-2:
            raise ValueError("a transform_matrix is no rotation with a translation")
    except (KeyError, TypeError, ValueError) as error:
        what = f"it holds no poses ({type(error).__name__}: {error})"
        raise FileProblem(path, what, "give a transforms file of AD-NeRF, or [T, 4, 4] matrices") from error
    return rigid(turn(poses)).astype(np.float32)
