"""Multiresolution grids of features: points to interpolated features, level after level."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import grid_reference

_MOST_LEVELS = 32
_MOST_FEATURES = 8
_FINEST = 1 << 16
_MOST_LOG2_TABLE = 24
_INTERPOLATIONS = ("linear", "smoothstep")


def _whole(name: str, value: Any, least: int, most: int) -> None:
    Checker("GridSpec").integer(name, value, least, most)


@dataclass(frozen=True)
class GridSpec:
    """The shape of a multiresolution grid.

    Its parameters are a table [entries, features]: the levels lie one behind the other from `offsets`. A
    level of resolution r has r vertices along every axis of [0, 1]^D, at k / (r - 1). Where r^D is at most
    2^log2_table it is dense: vertex (i_0, .., i_{D-1}) has the entry sum_d i_d r^d, the first axis being
    the fastest. Above, it is hashed: its 2^log2_table entries are shared by the hash of Mueller et al.
    2022, eq. (4). Coordinates outside of [0, 1] are clamped to the border.

    Args:
        dims: D, 2 to 4.
        features: of one level, 1 to 8.
        resolutions: of the levels, each 2 to 65536; at most 32 levels. See `geometric` for the usual
            progression.
        log2_table: logarithm of the most entries of a level, 1 to 24.
        interpolation: "linear" (bi-, tri-, quadrilinear), or "smoothstep": the fraction t in a cell becomes
            t^2 (3 - 2 t), so that the gradient with respect to the coordinates is continuous.

    Raises:
        TypeError, ValueError: an argument doesn't fit.

    Example:
        >>> spec = GridSpec(dims=2, features=4, resolutions=(16, 64, 256))
        >>> spec.out_features, spec.offsets
        (12, (0, 256, 4352, 69888))
    """

    dims: int
    features: int
    resolutions: tuple[int, ...]
    log2_table: int = 19
    interpolation: str = "linear"

    def __post_init__(self) -> None:
        _whole("dims", self.dims, 2, 4)
        _whole("features", self.features, 1, _MOST_FEATURES)
        if not isinstance(self.resolutions, Sequence) or isinstance(self.resolutions, str):
            raise TypeError(
                f"GridSpec: resolutions must be a tuple of int, got {type(self.resolutions).__name__}"
            )
        object.__setattr__(self, "resolutions", tuple(self.resolutions))
        if not 1 <= len(self.resolutions) <= _MOST_LEVELS:
            raise ValueError(
                f"GridSpec: resolutions must name 1 to {_MOST_LEVELS} levels, got {len(self.resolutions)}"
            )
        for i, resolution in enumerate(self.resolutions):
            _whole(f"resolutions[{i}]", resolution, 2, _FINEST)
        _whole("log2_table", self.log2_table, 1, _MOST_LOG2_TABLE)
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(
                f"GridSpec: interpolation must be 'linear' or 'smoothstep', got {self.interpolation!r}"
            )

    @classmethod
    def geometric(
        cls, dims: int, levels: int, features: int, base_resolution: int, finest_resolution: int,
        log2_table: int = 19, interpolation: str = "linear",
    ) -> GridSpec:  # fmt: skip
        """Levels whose resolutions grow by a constant factor, Mueller et al. 2022, eq. (2) and (3).

        Example:
            >>> GridSpec.geometric(2, 5, 4, base_resolution=16, finest_resolution=256).resolutions
            (16, 32, 64, 128, 256)
        """
        _whole("levels", levels, 1, _MOST_LEVELS)
        _whole("base_resolution", base_resolution, 2, _FINEST)
        _whole("finest_resolution", finest_resolution, base_resolution, _FINEST)
        growth = math.log(finest_resolution / base_resolution) / max(levels - 1, 1)
        resolutions = tuple(round(base_resolution * math.exp(growth * level)) for level in range(levels))
        return cls(dims, features, resolutions, log2_table, interpolation)

    @property
    def levels(self) -> int:
        """How many levels there are."""
        return len(self.resolutions)

    @property
    def out_features(self) -> int:
        """Size of the encoding: levels * features."""
        return len(self.resolutions) * self.features

    @property
    def offsets(self) -> tuple[int, ...]:
        """First entry of every level, and behind them the number of all entries: levels + 1 numbers."""
        return _offsets(self.dims, self.resolutions, self.log2_table)

    @property
    def entries(self) -> int:
        """Rows of the table."""
        return self.offsets[-1]

    @property
    def hashed(self) -> tuple[bool, ...]:
        """Which levels are hashed."""
        return tuple(r**self.dims > 1 << self.log2_table for r in self.resolutions)


def _offsets(dims: int, resolutions: Sequence[int], log2_table: int) -> tuple[int, ...]:
    offsets = [0]
    for resolution in resolutions:
        offsets.append(offsets[-1] + min(resolution**dims, 1 << log2_table))
    return tuple(offsets)


def _launch(
    name: str, inputs: dict[str, Tensor], outputs: dict[str, Tensor | None],
    resolutions: Sequence[int], log2_table: int, smooth: bool,
) -> None:  # fmt: skip
    x, table = inputs["x"], inputs["table"]
    offsets = _offsets(x.shape[1], resolutions, log2_table)
    if table.shape[0] != offsets[-1]:
        raise ValueError(f"{name}: table must have {offsets[-1]} rows, got {table.shape[0]}")
    # Held by name until the launch is over: the kernel reads them on the host.
    held = array("q", resolutions), array("q", offsets)
    native.launch(
        name, inputs, outputs,
        resolutions=held[0].buffer_info()[0], offsets=held[1].buffer_info()[0],
        points=x.shape[0], dims=x.shape[1], levels=len(resolutions), features=table.shape[1],
        smooth=int(smooth),
    )  # fmt: skip


def _grid(x: Tensor, table: Tensor, resolutions: Sequence[int], log2_table: int, smooth: bool) -> Tensor:
    out = _grid_fake(x, table, resolutions, log2_table, smooth)
    _launch("grid", {"x": x, "table": table}, {"out": out}, resolutions, log2_table, smooth)
    return out


def _grid_fake(x: Tensor, table: Tensor, resolutions: Sequence[int], log2_table: int, smooth: bool) -> Tensor:
    return x.new_empty(x.shape[0], len(resolutions) * table.shape[1])


def _grid_backward(
    x: Tensor, table: Tensor, v_out: Tensor, resolutions: Sequence[int], log2_table: int, smooth: bool,
    to_x: bool, to_table: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    v_x, v_table = _grid_backward_fake(x, table, v_out, resolutions, log2_table, smooth, to_x, to_table)
    _launch(
        "grid_backward",
        {"x": x, "table": table, "v_out": v_out},
        {"v_x": v_x if to_x else None, "v_table": v_table if to_table else None},
        resolutions, log2_table, smooth,
    )  # fmt: skip
    return v_x, v_table


def _grid_backward_fake(
    x: Tensor, table: Tensor, v_out: Tensor, resolutions: Sequence[int], log2_table: int, smooth: bool,
    to_x: bool, to_table: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    v_x = x.new_empty(x.shape[0] if to_x else 0, x.shape[1])
    return v_x, table.new_empty(table.shape[0] if to_table else 0, table.shape[1])


_call_grid = native.register(
    "grid(Tensor x, Tensor table, int[] resolutions, int log2_table, bool smooth) -> Tensor",
    _grid,
    _grid_fake,
)
_call_grid_backward = native.register(
    "grid_backward(Tensor x, Tensor table, Tensor v_out, int[] resolutions, int log2_table, bool smooth,"
    " bool to_x, bool to_table) -> (Tensor, Tensor)",
    _grid_backward,
    _grid_backward_fake,
)


class _Grid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, table: Tensor, resolutions: Sequence[int], log2_table: int, smooth: bool
    ) -> Tensor:
        ctx.save_for_backward(x, table)
        ctx.spec = (resolutions, log2_table, smooth)
        return _call_grid(x, table, resolutions, log2_table, smooth)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Any, ...]:
        to_x, to_table = ctx.needs_input_grad[:2]
        v_x, v_table = _call_grid_backward(*ctx.saved_tensors, v_out, *ctx.spec, to_x, to_table)
        return v_x if to_x else None, v_table if to_table else None, None, None, None


def encode_grid(x: Tensor, table: Tensor, spec: GridSpec, *, backend: str = "native") -> Tensor:
    """Interpolates a multiresolution grid of features at points, Mueller et al. 2022, section 3.

    Gradients flow to the table and to the points. With respect to a coordinate outside of [0, 1] the
    gradient is zero; exactly on a vertex it is that of the cell above (of the last cell at 1). A NaN
    coordinate gives NaN features.

    On the CPU the gradient of the table is the same from run to run for the same number of threads; on CUDA
    it is summed by atomic additions, in any order.

    Args:
        x: [N, D] points in [0, 1]; those outside are clamped to the border.
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
    smooth = spec.interpolation == "smoothstep"
    if torch.is_grad_enabled() and (x.requires_grad or table.requires_grad):
        return _Grid.apply(x, table, spec.resolutions, spec.log2_table, smooth)
    return _call_grid(x, table, spec.resolutions, spec.log2_table, smooth)
