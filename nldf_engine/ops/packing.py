"""The order in which the CPU kernels read weights, panels of 16 output features, and integers in it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PANEL = 16
"""Output features that are packed together, as csrc's resmlp.h says."""
INT8_LEVELS = 255
"""The largest integer of an activation of layers in 8 bits."""


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


def int16_levels(inputs: int) -> int:
    """The largest integer of an activation of layers of `inputs`, whose sums are int32.

    A row of weights w and activations of at most `levels` sum to at most levels * sum |w|. Half of the 31
    bits would go to each; activations get 1.1 bits more, as their largest is farther above the rest.
    """
    return min(32767, int(2.2 * ((2**31 - 1) / inputs) ** 0.5))


def pack_int16(weights: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Weights [..., out, in] as integers whose int32 sums with activations of at most `levels` are exact.

    Returns:
        int16 [..., ceil(out / 16), ceil(in / 2), 16, 2], contiguous and filled up with zeros, and what an
        integer of each output feature is worth, [..., out filled up to whole panels].
    """
    out, known = weights.shape[-2:]
    weights = F.pad(weights, (0, known % 2, 0, -out % PANEL))
    size, tiny = weights.abs(), torch.finfo(weights.dtype).tiny
    # A rounded weight is up to a half larger.
    bound = ((2**31 - 1) // levels - weights.shape[-1]) / size.sum(-1).clamp_min(tiny)
    scale = torch.minimum(bound, 32767 / size.amax(-1).clamp_min(tiny)).clamp_max(1e30)
    integers = (weights * scale[..., None]).round().to(torch.int16)
    pairs = integers.unflatten(-1, (-1, 2)).unflatten(-3, (-1, PANEL)).transpose(-2, -3)
    return pairs.contiguous(), 1 / scale


def pack_int8(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [..., out, in], multiples of 16 and of 4, as integers of 8 bits.

    Returns:
        int8 [..., out / 16, in / 4, 16, 4], contiguous; what an integer of each output feature is worth,
        [..., out]; and the sums of the integers over the inputs times that, [..., out].
    """
    worth = weights.abs().amax(-1).clamp_min(1e-30) / 127
    integers = (weights / worth[..., None]).round()
    quads = integers.to(torch.int8).unflatten(-1, (-1, 4)).unflatten(-3, (-1, PANEL)).transpose(-2, -3)
    return quads.contiguous(), worth, integers.sum(-1) * worth
