"""Random numbers from a generator that the caller owns, so that a run's draws depend on its seed alone."""

from __future__ import annotations

import torch
from torch import Tensor


def normal_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape, dtype and device of `values`; drawn on the generator's device."""
    drawn = torch.randn(values.shape, dtype=values.dtype, device=generator.device, generator=generator)
    return drawn.to(values.device)


def uniform_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers drawn evenly from [0, 1) of the shape, dtype and device of `values`."""
    drawn = torch.rand(values.shape, dtype=values.dtype, device=generator.device, generator=generator)
    return drawn.to(values.device)
