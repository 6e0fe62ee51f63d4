"""Multiresolution grids of features: points to interpolated features, level after level."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import grid_reference
from nldf_engine.ops.specs import GridSpec, Placing, level_offsets


def _launch(
    name: str, inputs: dict[str, Tensor], outputs: dict[str, Tensor | None],
    resolutions: Sequence[int], log2_table: int, smooth: bool, placing: Placing,
) -> None:  # fmt: skip
    x, table = inputs["x"], inputs["table"]
    scales, shift, border, tiled, alignment, fourth_prime = placing
    offsets = level_offsets(x.shape[1], resolutions, log2_table, alignment)
    if table.shape[0] != offsets[-1]:
        raise ValueError(f"{name}: table must have {offsets[-1]} rows, got {table.shape[0]}")
    if scales and len(scales) != len(resolutions):
        raise ValueError(f"{name}: scales must be none or {len(resolutions)}, got {len(scales)}")
    # Held by name until the launch is over: the kernel reads them on the host.
    held = array("q", resolutions), array("q", offsets), array("d", scales)
    native.launch(
        name, inputs, outputs,
        resolutions=held[0].buffer_info()[0], offsets=held[1].buffer_info()[0],
        points=x.shape[0], dims=x.shape[1], levels=len(resolutions), features=table.shape[1],
        smooth=int(smooth),
        placing={
            "scales": held[2].buffer_info()[0] if scales else 0, "shift": shift, "border": border,
            "tiled": int(tiled), "fourth_prime": fourth_prime,
        },
    )  # fmt: skip


def _grid(
    x: Tensor, table: Tensor, resolutions: Sequence[int], log2_table: int, smooth: bool, *placing: Any
) -> Tensor:
    out = _grid_fake(x, table, resolutions, log2_table, smooth, *placing)
    _launch("grid", {"x": x, "table": table}, {"out": out}, resolutions, log2_table, smooth, placing)
    return out


def _grid_fake(
    x: Tensor, table: Tensor, resolutions: Sequence[int], log2_table: int, smooth: bool, *placing: Any
) -> Tensor:
    return x.new_empty(x.shape[0], len(resolutions) * table.shape[1])


def _grid_backward(
    x: Tensor, table: Tensor, v_out: Tensor, to_x: bool, to_table: bool,
    resolutions: Sequence[int], log2_table: int, smooth: bool, *placing: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    v_x, v_table = _grid_backward_fake(x, table, v_out, to_x, to_table, resolutions, log2_table, smooth)
    _launch(
        "grid_backward",
        {"x": x, "table": table, "v_out": v_out},
        {"v_x": v_x if to_x else None, "v_table": v_table if to_table else None},
        resolutions, log2_table, smooth, placing,
    )  # fmt: skip
    return v_x, v_table


def _grid_backward_fake(
    x: Tensor, table: Tensor, v_out: Tensor, to_x: bool, to_table: bool,
    resolutions: Sequence[int], log2_table: int, smooth: bool, *placing: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    v_x = x.new_empty(x.shape[0] if to_x else 0, x.shape[1])
    return v_x, table.new_empty(table.shape[0] if to_table else 0, table.shape[1])


_SPEC = (
    "int[] resolutions, int log2_table, bool smooth, float[] scales, float shift, int border, bool tiled,"
    " int alignment, int fourth_prime"
)
_call_grid = native.register(f"grid(Tensor x, Tensor table, {_SPEC}) -> Tensor", _grid, _grid_fake)
_call_grid_backward = native.register(
    f"grid_backward(Tensor x, Tensor table, Tensor v_out, bool to_x, bool to_table, {_SPEC})"
    " -> (Tensor, Tensor)",
    _grid_backward,
    _grid_backward_fake,
)


class _Grid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, *numbers: Any) -> Tensor:
        ctx.save_for_backward(x, table)
        ctx.numbers = numbers
        return _call_grid(x, table, *numbers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Any, ...]:
        to_x, to_table = ctx.needs_input_grad[:2]
        v_x, v_table = _call_grid_backward(*ctx.saved_tensors, v_out, to_x, to_table, *ctx.numbers)
        return v_x if to_x else None, v_table if to_table else None, *(None for _ in ctx.numbers)


def _numbers(spec: GridSpec) -> tuple[Any, ...]:
    """A spec as the operations take it, behind the tensors."""
    return spec.resolutions, spec.log2_table, spec.interpolation == "smoothstep", *spec.placing


def table_gradient(x: Tensor, table: Tensor, spec: GridSpec, v_out: Tensor) -> Tensor:
    """The gradient of `encode_grid` with respect to its table alone, by the native kernel.

    Args:
        x: [N, D] points.
        table: [spec.entries, spec.features].
        spec: the grid's shape.
        v_out: [N, levels * features], the gradient of the encoding.

    Returns:
        [spec.entries, spec.features].
    """
    return _call_grid_backward(x, table, v_out, False, True, *_numbers(spec))[1]


def encode_grid(x: Tensor, table: Tensor, spec: GridSpec, *, backend: str = "native") -> Tensor:
    """Interpolates a multiresolution grid of features at points, Mueller et al. 2022, section 3.

    Gradients flow to the table and to the points. With respect to a coordinate outside of [0, 1] the
    gradient is zero, unless the grid's border wraps; exactly on a vertex it is that of the cell above (of the
    last cell at 1). A NaN coordinate gives NaN features.

    On the CPU the gradient of the table is the same from run to run for the same number of threads; on CUDA
    it is summed by atomic additions, in any order.

    Args:
        x: [N, D] points in [0, 1]; those outside are clamped to the border, or what `spec.border` says.
        table: [spec.entries, spec.features] parameters.
        spec: the grid's shape.
        backend: "native" or "reference".

    Returns:
        [N, levels * features], the features of the first level first.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> spec = GridSpec(dims=2, features=1, resolutions=(2,))
        >>> table = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> encode_grid(torch.tensor([[0.25, 0.5]]), table, spec)
        tensor([[1.2500]])
    """
    check = Checker("encode_grid")
    if not isinstance(spec, GridSpec):
        raise TypeError(f"encode_grid: spec must be a GridSpec, got {type(spec).__name__}")
    check.tensor("x", x, ("N", spec.dims))
    check.tensor("table", table, (spec.entries, spec.features))
    if not native.use_native("encode_grid", backend):
        return grid_reference(x, table, spec)
    if torch.is_grad_enabled() and (x.requires_grad or table.requires_grad):
        return _Grid.apply(x, table, *_numbers(spec))
    return _call_grid(x, table, *_numbers(spec))
