"""The order in which the CPU kernels read weights: output features in panels of 16."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

PANEL = 16
"""Output features that are packed together, as csrc's resmlp.h says."""


def whole_panels(count: int) -> int:
    """`count` rounded up to a multiple of PANEL."""
    return count + -count % PANEL


def pack_panels(weights: Tensor, inputs: int | None = None) -> Tensor:
    """Weights [..., out, in] as [..., ceil(out / 16), in, 16], contiguous.

    Outputs are filled up to whole panels, and inputs to `inputs` where it is given, with zeros.
    """
    out, known = weights.shape[-2:]
    padded = F.pad(weights, (0, (inputs or known) - known, 0, -out % PANEL))
    return padded.unflatten(-2, (-1, PANEL)).transpose(-1, -2).contiguous()


def widen(bias: Tensor, width: int) -> Tensor:
    """[F, width] of biases [F, W], filled up with zeros as packed weights are."""
    rest = width - bias.shape[1]
    return F.pad(bias, (0, rest)) if rest > 0 else bias
