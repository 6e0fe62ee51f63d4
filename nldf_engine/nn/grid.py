"""A multiresolution grid of features as a module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine.ops import GridSpec, encode_grid


class GridEncoding(nn.Module):
    """Learnable features over [0, 1]^D: `ops.encode_grid` with its table as a parameter.

    Args:
        spec: the grid's shape.
        init: the table starts uniform in [-init, init], 1e-4 as in Mueller et al. 2022, section 4.

    Example:
        >>> encoding = GridEncoding(GridSpec(dims=2, features=4, resolutions=(16, 64, 256)))
        >>> encoding(torch.rand(5, 2)).shape
        torch.Size([5, 12])
    """

    def __init__(self, spec: GridSpec, init: float = 1e-4) -> None:
        super().__init__()
        self.spec = spec
        self.table = nn.Parameter(torch.empty(spec.entries, spec.features).uniform_(-init, init))

    @property
    def out_features(self) -> int:
        """Size of the encoding: levels * features."""
        return self.spec.out_features

    def forward(self, x: Tensor, *, backend: str = "native") -> Tensor:
        """[N, levels * features] of points x [N, D] in [0, 1]; see `ops.encode_grid`."""
        return encode_grid(x, self.table, self.spec, backend=backend)

    def extra_repr(self) -> str:
        """The grid's shape, for `print`."""
        spec = self.spec
        return (
            f"dims={spec.dims}, features={spec.features}, resolutions={spec.resolutions}, "
            f"log2_table={spec.log2_table}, interpolation={spec.interpolation!r}"
        )


def grid_parameters(module: nn.Module, lr: float = 1e-2) -> dict[str, Any]:
    """The parameter group of every grid inside `module`, for `training.optimizer.TableAdam`.

    A step touches few entries of a fine level, and those seldom. Such entries need betas of (0.9, 0.99) and
    an epsilon of 1e-15, so that a small second moment still gives a full step, and no weight decay, which
    would pull entries that no point visits (Mueller et al. 2022, section 4); "sparse" has the optimiser pass
    over entries that a batch didn't meet. This is the one place that says how grids are optimised.

    Args:
        module: looked through for `GridEncoding`s, itself included.
        lr: learning rate.

    Raises:
        ValueError: there is no grid in `module`.

    Example:
        >>> encoding = GridEncoding(GridSpec(dims=2, features=2, resolutions=(8, 16)))
        >>> optimizer = TableAdam([grid_parameters(encoding)], lr=1e-2)      # doctest: +SKIP
    """
    tables = [part.table for part in module.modules() if isinstance(part, GridEncoding)]
    if not tables:
        raise ValueError(f"grid_parameters: module must hold a GridEncoding, got {type(module).__name__}")
    return {
        "params": tables, "lr": lr, "betas": (0.9, 0.99), "eps": 1e-15, "weight_decay": 0.0, "sparse": True
    }  # fmt: skip
