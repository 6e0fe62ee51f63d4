"""Random numbers from a generator that the caller owns, so that a run's draws depend on its seed alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nldf_engine.ops import native


def normal_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape, dtype and device of `values`; drawn on the generator's device."""
    return native.send(torch.randn(values.shape, **_drawn(values, generator)), values.device)


def uniform_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers drawn evenly from [0, 1) of the shape, dtype and device of `values`."""
    return native.send(torch.rand(values.shape, **_drawn(values, generator)), values.device)


def _drawn(values: Tensor, generator: torch.Generator) -> dict[str, Any]:
    return {"dtype": values.dtype, "device": generator.device, "generator": generator}
