"""Grids of RAD-NeRF and tiny-cuda-nn: what our kernels read of their tables is what their sources say.

Their indexing is written down a second time here, in numpy, point by point and corner by corner.
"""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nldf_engine import ops
from nldf_engine.base.errors import FileProblem
from nldf_engine.nn.released_grids import LEVELS, radnerf_grids, radnerf_spec, tinycudann_grid

PRIMES = (1, 2654435761, 805459861, 3674653429)
Array = np.ndarray


def their_offsets(dims: int, finest: float) -> list[int]:
    """Where RAD-NeRF's levels begin: the next whole resolution and one vertex more, in multiples of 8."""
    growth = np.exp2(np.log2(finest / 16) / (LEVELS - 1))
    offsets = [0]
    for level in range(LEVELS):
        vertices = (int(np.ceil(16 * growth**level)) + 1) ** dims
        offsets.append(offsets[-1] + int(np.ceil(min(2**16, vertices) / 8)) * 8)
    return offsets


def their_scale(level: int, growth: float, base: int) -> np.float32:
    """Cells a unit, in single precision."""
    return np.exp2(np.float32(level) * np.float32(np.log2(growth))) * np.float32(base) - np.float32(1)


def read_level(
    x: Array, rows: Array, scale: np.float32, stride: int, hashed: bool, early: bool, place: type = np.float64
) -> Array:
    """One level at a point x [D] of rows [entries, F]; `early` ends the index behind the table's end.

    Kernels compute in float32 where a point is, and with that `place` so does this; their multiply-add rounds
    once, as rounding a float64 does.
    """
    position = (x * float(scale) + 0.5).astype(place).astype(np.float64)
    cell = np.floor(position)
    total = np.zeros(rows.shape[1])
    for corner in product((0, 1), repeat=len(x)):
        weight = np.prod(np.where(corner, position - cell, 1 - (position - cell)))
        vertex = [int(v) for v in cell + np.array(corner)]
        index, step = 0, 1
        for v in vertex:
            if early and step > len(rows):
                break
            index, step = index + v * step, step * stride
        if hashed and step > len(rows):
            index = 0
            for v, prime in zip(vertex, PRIMES, strict=False):
                index ^= (v % 2**32) * prime % 2**32
        total += weight * rows[index % 2**32 % len(rows)]
    return total


def their_radnerf(x: Array, table: Array, offsets: list[int], finest: float, place: type) -> Array:
    """RAD-NeRF's tiled grid at one point x [D] in [0, 1]; zeros outside."""
    if (x < 0).any() or (x > 1).any():
        return np.zeros(2 * LEVELS)
    growth, levels = np.exp2(np.log2(finest / 16) / (LEVELS - 1)), []
    for level in range(LEVELS):
        scale = their_scale(level, growth, 16)
        stride = int(np.ceil(scale)) + 2
        rows = table[offsets[level] : offsets[level + 1]]
        levels.append(read_level(x, rows, scale, stride, False, True, place))
    return np.concatenate(levels)


def radnerf_state(bound: float = 1.0, torso: bool = True) -> dict[str, torch.Tensor]:
    """A model's state by RAD-NeRF's names and shapes, as far as grids and box go, and one network."""
    draw = torch.Generator().manual_seed(0)
    box = torch.tensor([-bound, -bound / 2, -bound, bound, bound / 2, bound])
    state = {"aabb_train": box, "aabb_infer": box, "density_bitfield": torch.zeros(8, dtype=torch.uint8)}
    grids = {"encoder": (3, 2048 * bound), "encoder_ambient": (2, 2048), "torso_encoder": (2, 2048)}
    for name, (dims, finest) in list(grids.items())[: 3 if torso else 2]:
        offsets = their_offsets(dims, finest)
        state[f"{name}.embeddings"] = torch.randn(offsets[-1], 2, generator=draw)
        state[f"{name}.offsets"] = torch.tensor(offsets, dtype=torch.int32)
    state["sigma_net.net.0.weight"] = torch.randn(64, 64, generator=draw)
    return state


def save(path: Path, state: dict[str, torch.Tensor], **more: Any) -> Path:
    """The file as RAD-NeRF saves it, its log with numpy's numbers in it."""
    stats = {
        "loss": [0.1],
        "valid_loss": [],
        "results": [np.float64(30.5)],
        "checkpoints": [],
        "best_result": None,
    }
    rest = {"epoch": 28, "global_step": 200_000, "stats": stats, "mean_count": 1000, "mean_density": 0.5}
    torch.save({**rest, "mean_density_torso": 0.0, "model": state, **more}, path)
    return path


def points(dims: int, count: int = 60) -> Array:
    draw = np.random.default_rng(dims)
    x = draw.uniform(-0.1, 1.1, (count, dims))
    x[0], x[1] = 0, 1
    return x.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("bound", [1.0, 2.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_radnerf_checkpoint(dtype: torch.dtype, tolerance: float, bound: float, tmp_path: Path) -> None:
    """All three grids of a checkpoint give what their kernel gives, at the borders and outside as well."""
    state = radnerf_state(bound)
    grids = radnerf_grids(save(tmp_path / "ngp.pth", state))
    assert list(grids) == ["encoder", "encoder_ambient", "torso_encoder"]
    for name, grid in grids.items():
        dims, finest = grid.spec.dims, 2048 * bound if name == "encoder" else 2048
        table = state[f"{name}.embeddings"].double().numpy()
        x = points(dims)
        offsets, place = their_offsets(dims, finest), np.float32 if dtype == torch.float32 else np.float64
        theirs = np.stack([their_radnerf(p, table, offsets, finest, place) for p in x])
        with torch.no_grad():
            ours = grid.to(dtype)(torch.from_numpy(x).to(dtype)).double().numpy()
        assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()
        assert (theirs == 0).all(1).any() and np.ptp(theirs) > 2


def test_fine_tiled_levels_ignore_the_last_coordinate() -> None:
    """Where a row of rows passes the table's end, RAD-NeRF's index stops: 7 of 16 levels of its head."""
    spec = radnerf_spec(3)
    x = torch.rand(50, 3, dtype=torch.float64)
    moved = torch.cat([x[:, :2], torch.rand(50, 1, dtype=torch.float64)], 1)
    table = torch.randn(spec.entries, 2, dtype=torch.float64)
    change = (ops.encode_grid(x, table, spec) - ops.encode_grid(moved, table, spec)).abs()
    same = (change.view(50, LEVELS, 2).amax((0, 2)) < 1e-12).tolist()
    assert sum(same) == 7 and not any(same[:9])


@pytest.mark.parametrize("dims", [2, 3, 4])
@pytest.mark.parametrize(
    "config",
    [
        {"otype": "HashGrid", "n_levels": 6, "log2_hashmap_size": 9, "base_resolution": 4,
         "per_level_scale": 1.7},
        {"otype": "Grid", "type": "Hash", "n_levels": 3, "log2_hashmap_size": 12, "base_resolution": 3},
        {"otype": "DenseGrid", "n_levels": 3, "base_resolution": 4, "per_level_scale": 1.4},
        {"otype": "Grid", "type": "Dense", "n_levels": 2, "n_features_per_level": 4, "base_resolution": 5,
         "per_level_scale": 1.31},
    ],
)  # fmt: skip
def test_tiny_cuda_nn(config: dict[str, Any], dims: int) -> None:
    """Hashed and dense grids give what their kernel gives, in 4 dimensions and past both borders as well."""
    levels, base = config["n_levels"], config["base_resolution"]
    features, growth = config.get("n_features_per_level", 2), config.get("per_level_scale", 2.0)
    hashed = "Hash" in (config["otype"].removesuffix("Grid"), config.get("type"))
    scales = [their_scale(level, growth, base) for level in range(levels)]
    sizes = [-(-((int(np.ceil(scale)) + 1) ** dims) // 8) * 8 for scale in scales]
    if hashed:
        sizes = [min(size, 2 ** config["log2_hashmap_size"]) for size in sizes]
    table = np.random.default_rng(0).normal(size=(sum(sizes), features))
    grid = tinycudann_grid(torch.from_numpy(table.astype(np.float32)).flatten(), dims, config)
    table = table.astype(np.float32).astype(np.float64)
    starts = np.cumsum([0, *sizes])
    x = points(dims)
    for dtype, place, tolerance in ((torch.float64, np.float64, 1e-12), (torch.float32, np.float32, 1e-5)):
        theirs = np.stack([
            np.concatenate([
                read_level(p, table[a:b], scale, int(np.ceil(scale)) + 1, hashed, False, place)
                for a, b, scale in zip(starts, starts[1:], scales, strict=False)
            ])
            for p in x
        ])  # fmt: skip
        with torch.no_grad():
            ours = grid.to(dtype)(torch.from_numpy(x).to(dtype)).double().numpy()
        assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()
    shared = [int(np.ceil(scale) + 1) ** dims > size for scale, size in zip(scales, sizes, strict=True)]
    assert any(shared) == (dims in {9: (2, 3, 4), 12: (4,)}.get(config.get("log2_hashmap_size"), ()))


class Writes:
    """Unpickling an object of this class would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_wrong_checkpoints(tmp_path: Path) -> None:
    """Whatever is no RAD-NeRF checkpoint is refused with what was found, and nothing in it is executed."""
    path, state = tmp_path / "ngp.pth", radnerf_state(torso=False)
    assert list(radnerf_grids(save(path, state))) == ["encoder", "encoder_ambient"]

    def refused(changed: dict[str, Any], match: str, **more: Any) -> None:
        with pytest.raises(FileProblem, match=match):
            radnerf_grids(save(path, changed, **more))

    refused(state, "refused: it holds more than tensors", optimizer=Writes(tmp_path / "mark"))
    assert not (tmp_path / "mark").exists()
    refused({k: v for k, v in state.items() if "encoder" not in k}, "none of the grids")
    refused({k: v for k, v in state.items() if "aabb" not in k}, "no box aabb_train")
    refused({k: v for k, v in state.items() if "offsets" not in k}, "the levels of its encoder begin at None")
    refused(radnerf_state() | {"encoder.offsets": torch.arange(17)}, "begin at \\[0, 1, 2")
    refused(state | {"encoder.embeddings": torch.zeros(8, 2)}, "encoder.embeddings has the shape \\[8, 2\\]")
    broken = radnerf_state(torso=False)
    broken["encoder.embeddings"][3, 1] = torch.nan
    refused(broken, "model: encoder.embeddings holds NaN")
    whole = save(path, state).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileProblem, match=r"refused|can't be read"):
        radnerf_grids(path)
    with pytest.raises(FileProblem, match="no such file"):
        radnerf_grids(tmp_path / "none.pth")


def test_wrong_configurations() -> None:
    """A config that says another grid than the parameters are is named with both."""
    with pytest.raises(ValueError, match="expected a hash grid or a dense one, got 'Frequency'"):
        tinycudann_grid(torch.zeros(8), 3, {"otype": "Frequency"})
    with pytest.raises(ValueError, match="got 'Grid' of the type 'tiled'"):
        tinycudann_grid(torch.zeros(8), 3, {"otype": "Grid", "type": "Tiled"})
    with pytest.raises(ValueError, match=r"params: expected \[\d+\] for this config, got \[8\]"):
        tinycudann_grid(torch.zeros(8), 3, {"otype": "HashGrid"})
    with pytest.raises(ValueError, match=r"a dense level has more than 2\^24 entries"):
        tinycudann_grid(
            torch.zeros(8), 3, {"otype": "DenseGrid", "base_resolution": 300, "per_level_scale": 1.1}
        )
