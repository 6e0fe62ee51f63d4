"""ops.encode_grid against its reference, torch's grid_sample and tiny-cuda-nn.

The plane is the light field's grid (three dense levels of four features), the volume a hashed grid of 16
levels with two features.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops import GridSpec

SPECS = {
    "plane": GridSpec(dims=2, features=4, resolutions=(16, 64, 256)),
    "volume": GridSpec.geometric(3, 16, 2, base_resolution=16, finest_resolution=1024, log2_table=16),
}


NAMES = ("plane", pytest.param("volume", marks=pytest.mark.thorough))
POINTS = (pytest.param(8192, marks=pytest.mark.thorough), 65536)
ABSENT = (
    {}
    if importlib.util.find_spec("tinycudann")
    else {"tiny-cuda-nn": "not installed: pip install git+https://github.com/NVlabs/tiny-cuda-nn"}
)


def flops(spec: GridSpec) -> float:
    """Of a point: on each level its cell (4 a coordinate), 2^D weights, and a product and a sum a feature."""
    corners = 2**spec.dims
    return spec.levels * (4 * spec.dims + corners * (spec.dims - 1) + 2 * corners * spec.features)


def moved(spec: GridSpec) -> float:
    """Bytes of a point: its coordinates, the features of the corners, the output."""
    return 4.0 * (spec.dims + (2**spec.dims + 1) * spec.out_features)


def case(device: torch.device, spec: GridSpec, points: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points, table and cotangent."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(points, spec.dims, generator=g)
    table = torch.randn(spec.entries, spec.features, generator=g)
    v_out = torch.randn(points, spec.out_features, generator=g)
    return x.to(device), table.to(device), v_out.to(device)


def grid_sample(x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
    """Dense levels by torch's own bilinear sampling, which wants [features, height, width]."""
    where, levels = (2 * x - 1)[None, None], []
    for first, last, resolution in zip(spec.offsets, spec.offsets[1:], spec.resolutions, strict=False):
        picture = table[first:last].T.reshape(1, spec.features, resolution, resolution)
        out = torch.nn.functional.grid_sample(picture, where, padding_mode="border", align_corners=True)
        levels.append(out[0, :, 0].T)
    return torch.cat(levels, 1)


def contestants(spec: GridSpec) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """What runs on this grid."""
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        name: lambda x, table, name=name: ops.encode_grid(x, table, spec, backend=name)
        for name in ("native", "reference")
    }
    if not any(spec.hashed) and spec.dims == 2:
        found["grid_sample"] = lambda x, table: grid_sample(x, table, spec)
    return found


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("name", NAMES)
def test_forward(race, device, name, points):
    spec = SPECS[name]
    x, table, _ = case(device, spec, points)
    runs = contestants(spec)
    for run in runs.values():
        torch.testing.assert_close(runs["native"](x, table), run(x, table), rtol=1e-3, atol=1e-3)
    race(
        {key: lambda run=run: run(x, table) for key, run in runs.items()},
        device=device, units=points, unit="points", flops=flops(spec), moved=moved(spec), absent=ABSENT,
    )  # fmt: skip


@pytest.mark.parametrize("wanted", ["table", pytest.param("table and points", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(race, device, name, points, wanted):
    spec = SPECS[name]
    x, table, v_out = case(device, spec, points)
    leaves = (table.requires_grad_(), x.requires_grad_())[: 1 + ("points" in wanted)]
    x = x if "points" in wanted else x.detach()
    runs = contestants(spec)

    def step(run: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(run(x, table), leaves, v_out)

    steps = {key: lambda run=run: step(run) for key, run in runs.items()}
    # Within float32's error at vertices the sides may differ, so a few coordinates may.
    want = steps["native"]()
    for got in (run() for run in steps.values()):
        torch.testing.assert_close(got[0], want[0], rtol=1e-3, atol=1e-2)
        for ours, theirs in zip(want[1:], got[1:], strict=True):
            assert ((ours - theirs).abs() > 1e-3 * theirs.abs().mean()).double().mean() < 1e-3
    race(
        steps, device=device, units=points, unit="points",
        flops=(3 if "points" in wanted else 2) * flops(spec), moved=2 * moved(spec), absent=ABSENT,
    )  # fmt: skip


def tiny_cuda_nn(spec: GridSpec) -> Any:
    """Its grid of the same levels, features and entries, in half precision as it comes."""
    import tinycudann

    growth = (spec.resolutions[-1] / spec.resolutions[0]) ** (1 / (spec.levels - 1))
    return tinycudann.Encoding(
        spec.dims,
        {
            "otype": "HashGrid",
            "n_levels": spec.levels,
            "n_features_per_level": spec.features,
            "log2_hashmap_size": spec.log2_table,
            "base_resolution": spec.resolutions[0],
            "per_level_scale": growth,
        },
    )


@pytest.mark.parametrize("points", [1 << 18, 1 << 20])
@pytest.mark.parametrize("name", SPECS)
def test_against_tiny_cuda_nn(race, name, points):
    """Forward, and backward to the table. Its cells lie half a cell off ours, so the values can't agree."""
    if importlib.util.find_spec("tinycudann") is None:
        pytest.skip("tinycudann is not installed")
    if not torch.cuda.is_available() or not ops.backends()["cuda"]:
        pytest.skip("tinycudann needs a CUDA device, and nldf_engine._C the CUDA kernels")
    device, spec = torch.device("cuda"), SPECS[name]
    x, table, v_out = case(device, spec, points)
    table.requires_grad_()
    peer = tiny_cuda_nn(spec)
    assert peer.n_output_dims == spec.out_features

    def step(out: Tensor, leaf: Tensor) -> None:
        torch.autograd.grad(out, leaf, v_out.to(out.dtype))

    runs = {
        "native": lambda: step(ops.encode_grid(x, table, spec), table),
        "tinycudann": lambda: step(peer(x), peer.params),
    }
    race(
        runs, device=device, units=points, unit="points", flops=2 * flops(spec), moved=2 * moved(spec)
    )  # fmt: skip
