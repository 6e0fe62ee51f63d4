"""Problems for the kernels of `grid`."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops.reference import grid_reference
from nldf_engine.ops.specs import GridSpec
from simt.problem import Problem, case, gradients, leaves
from simt.runner import Source

GRID = Source("csrc/ops/grid_cuda.cu", "ops/grid.h", ("grid", "grid_backward"))
# Wide accesses in a dense and a hashed level, then single floats and five levels for four lanes.
_PLANE = GridSpec(2, 4, (5, 40), log2_table=9, interpolation="smoothstep")
_VOLUME = GridSpec(3, 3, (3, 4, 7, 9, 20), log2_table=8)
# Dense, wrapped and hashed levels, then tiled ones with zeros outside, and four dimensions.
_WRAPPED = GridSpec.staggered(3, 4, 2, base_resolution=3, growth=1.9, log2_table=7)
_TILED = GridSpec.staggered(
    2, 3, 4, base_resolution=4, growth=2.2, log2_table=6, interpolation="smoothstep", margin=1, border="zero",
    sharing="tile",
)  # fmt: skip
_FOUR = GridSpec.staggered(4, 2, 1, base_resolution=3, growth=1.7, log2_table=8, border="clamp")


def _grid_problem(spec: GridSpec, size: int, backward: bool) -> Problem:
    g = torch.Generator().manual_seed(size)
    x = 1.2 * torch.rand(size, spec.dims, generator=g) - 0.1
    inputs = {"x": x, "table": torch.randn(spec.entries, spec.features, generator=g)}
    v_out = torch.randn(size, spec.out_features, generator=g)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        both = leaves(inputs, dtype, "x", "table")
        out = grid_reference(*both, spec)
        if not backward:
            return {"out": out.detach()}
        return dict(zip(("v_x", "v_table"), gradients([out], [v_out], both), strict=True))

    held = {"resolutions": torch.tensor(spec.resolutions), "offsets": torch.tensor(spec.offsets)}
    scales, shift, border, tiled, _, prime = spec.placing
    numbers = {
        "points": size, "dims": spec.dims, "levels": spec.levels, "features": spec.features,
        "smooth": int(spec.interpolation == "smoothstep"), "placing.shift": shift, "placing.border": border,
        "placing.tiled": tiled, "placing.fourth_prime": prime,
    }  # fmt: skip
    if scales:
        held["placing.scales"] = torch.tensor(scales, dtype=torch.float64)
    else:
        numbers["placing.scales"] = 0
    if not backward:
        return Problem(inputs | held, {"out": tuple(v_out.shape)}, numbers, reference)
    outputs = {"v_x": tuple(x.shape), "v_table": tuple(inputs["table"].shape)}
    return Problem(inputs | held | {"v_out": v_out}, outputs, numbers, reference)


@case(GRID)
def grid(size: int) -> Problem:
    return _grid_problem(_PLANE, size, False)


@case(GRID, "grid")
def grid_volume(size: int) -> Problem:
    return _grid_problem(_VOLUME, size, False)


@case(GRID)
def grid_backward(size: int) -> Problem:
    return _grid_problem(_PLANE, size, True)


@case(GRID, "grid_backward")
def grid_backward_volume(size: int) -> Problem:
    return _grid_problem(_VOLUME, size, True)


@case(GRID, "grid")
def grid_wrapped(size: int) -> Problem:
    return _grid_problem(_WRAPPED, size, False)


@case(GRID, "grid")
def grid_tiled(size: int) -> Problem:
    return _grid_problem(_TILED, size, False)


@case(GRID, "grid_backward")
def grid_backward_wrapped(size: int) -> Problem:
    return _grid_problem(_WRAPPED, size, True)


@case(GRID, "grid_backward")
def grid_backward_tiled(size: int) -> Problem:
    return _grid_problem(_TILED, size, True)


@case(GRID, "grid_backward")
def grid_backward_four(size: int) -> Problem:
    return _grid_problem(_FOUR, size, True)
