"""Grids of features that other programs trained, with their tables as they are.

    grids = radnerf_grids("ngp_ep0028.pth")
    features = grids["encoder"]((points + 1) / 2)

Their levels are placed and indexed as `GridSpec.staggered` says; no entry is moved, so that the encoding is
theirs to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nldf_engine.base.errors import FileProblem
from nldf_engine.nn.checkpoints import read_checkpoint_file, take_network
from nldf_engine.nn.grid import GridEncoding
from nldf_engine.ops import GridSpec

AS_SAVED = "give a checkpoint as RAD-NeRF saves it, ngp_ep0028.pth or the like"
# RAD-NeRF's encoders, and their numbers of coordinates: the head's points, the ambient ones, the torso's.
ENCODERS = {"encoder": 3, "encoder_ambient": 2, "torso_encoder": 2}
# What its program builds them with; only the finest resolution depends on a setting.
LEVELS, FEATURES, COARSEST, FINEST, LOG2_TABLE = 16, 2, 16, 2048, 16


def radnerf_grids(path: str | Path) -> dict[str, GridEncoding]:
    """The grids of a RAD-NeRF checkpoint by the names of `ENCODERS`, as many as it has.

    They take coordinates in [0, 1]: RAD-NeRF's own divided by twice the bound that it was trained with, plus
    1/2. That bound stretches the resolution of the head's grid, and is read from the file's `aabb_train`.

    Raises:
        FileProblem: it is no such checkpoint, damaged, would run code, or has grids of other sizes.

    Example:
        grids = radnerf_grids("trial_obama/checkpoints/ngp_ep0028.pth")
        features = grids["encoder"]((points / bound + 1) / 2)  # [N, 32]
    """
    path = Path(path)
    value = read_checkpoint_file(path, AS_SAVED)
    state = take_network(path, value, "model", AS_SAVED)
    box = state.get("aabb_train")
    if box is None or box.shape != (6,) or not float(box[3]) > 0:
        raise FileProblem(path, "it has no box aabb_train of six numbers", AS_SAVED)
    bound = float(box[3])
    found: dict[str, GridEncoding] = {}
    for name, dims in ENCODERS.items():
        table = state.get(f"{name}.embeddings")
        if table is not None:
            finest = FINEST * bound if name == "encoder" else FINEST
            spec = radnerf_spec(dims, finest)
            _check_offsets(path, name, value["model"].get(f"{name}.offsets"), spec)
            found[name] = _filled(path, f"{name}.embeddings", spec, table, AS_SAVED)
    if not found:
        raise FileProblem(path, f"it has none of the grids {', '.join(ENCODERS)}", AS_SAVED)
    return found


def radnerf_spec(dims: int, finest: float = FINEST) -> GridSpec:
    """A tiled grid as RAD-NeRF builds it, from 16 to `finest` cells a unit."""
    growth = 2 ** (math.log2(finest / COARSEST) / (LEVELS - 1))
    return GridSpec.staggered(
        dims, LEVELS, FEATURES, COARSEST, growth, LOG2_TABLE, margin=1, border="zero", sharing="tile"
    )


def tinycudann_grid(params: Tensor, dims: int, config: Mapping[str, Any]) -> GridEncoding:
    """A grid that `tinycudann.Encoding` trained.

    Args:
        params: [n], its `params`.
        dims: D, 2 to 4.
        config: what it was built with: `otype` "HashGrid", "DenseGrid", or "Grid" with its `type`;
            `n_levels`, `n_features_per_level`, `log2_hashmap_size`, `base_resolution`, `per_level_scale`,
            `interpolation`. What it leaves out has tiny-cuda-nn's default.

    Raises:
        ValueError: another kind of encoding, one of other sizes than the parameters', or a dense level of
            more than 2^24 entries.
    """
    name = str(config.get("otype", "Grid"))
    kind = name.removesuffix("Grid").lower() or str(config.get("type", "Hash")).lower()
    if kind not in ("hash", "dense"):
        raise ValueError(f"config: expected a hash grid or a dense one, got {name!r} of the type {kind!r}")
    levels, base = config.get("n_levels", 16), config.get("base_resolution", 16)
    usual = 2.0 if kind == "hash" else (256 / base) ** (1 / max(levels - 1, 1))
    spec = GridSpec.staggered(
        dims, levels, config.get("n_features_per_level", 2), base, config.get("per_level_scale", usual),
        config.get("log2_hashmap_size", 19) if kind == "hash" else 24,
        str(config.get("interpolation", "Linear")).lower(),
    )  # fmt: skip
    if kind == "dense" and any(spec.shared):
        raise ValueError(f"config: a dense level has more than 2^24 entries: resolutions {spec.resolutions}")
    size = spec.entries * spec.features
    if params.dim() != 1 or len(params) != size:
        raise ValueError(f"params: expected [{size}] for this config, got {list(params.shape)}")
    return _encoding(spec, params.view(spec.entries, spec.features))


def _check_offsets(path: Path, name: str, offsets: Any, spec: GridSpec) -> None:
    """Checks that a level begins where the file says that it does."""
    if not isinstance(offsets, Tensor) or tuple(offsets.tolist()) != spec.offsets:
        came = offsets.tolist() if isinstance(offsets, Tensor) else offsets
        raise FileProblem(
            path, f"the levels of its {name} begin at {came}, and were expected at {list(spec.offsets)}",
            "only grids of the sizes that RAD-NeRF's program has built in are read",
        )  # fmt: skip


def _filled(path: Path, key: str, spec: GridSpec, table: Tensor, remedy: str) -> GridEncoding:
    if table.shape != (spec.entries, spec.features):
        what = f"its {key} has the shape {list(table.shape)}, expected {[spec.entries, spec.features]}"
        raise FileProblem(path, what, remedy)
    return _encoding(spec, table)


def _encoding(spec: GridSpec, table: Tensor) -> GridEncoding:
    made = GridEncoding(spec)
    with torch.no_grad():
        made.table.copy_(table)
    return made.eval()
