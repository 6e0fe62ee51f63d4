"""Layers of float32 weights over rows that may overlap, as a convolution's do, each row by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import affine_reference

PANEL = 16  # outputs whose weights lie together


@dataclass(frozen=True)
class PackedAffine:
    """A layer of K inputs and N outputs as the kernel reads it.

    Attributes:
        plain: [N, K] the weight as it was given.
        weights: [ceil(N / 16), K, 16] float32, zeros behind the last output.
        bias: [N] float32.
    """

    plain: Tensor
    weights: Tensor
    bias: Tensor


def pack_affine(weight: Tensor, bias: Tensor | None = None) -> PackedAffine:
    """Arranges a layer for `affine`.

    Args:
        weight: [N, K] float32.
        bias: [N] float32; zeros where it is None.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
    """
    check = Checker("pack_affine", (torch.float32,), "torch.float32")
    check.tensor("weight", weight, ("N", "K"))
    if not weight.numel():
        raise ValueError(f"pack_affine: weight must have inputs and outputs, got {list(weight.shape)}")
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    check.tensor("bias", bias, ("N",))
    weight, bias = weight.detach().clone(), bias.detach().clone()
    return PackedAffine(weight, in_panels(weight), bias)


def in_panels(weight: Tensor) -> Tensor:
    """[ceil(N / 16), K, 16] of a weight [N, K]: 16 outputs' weights lie together, zeros behind the last."""
    filled = F.pad(weight, (0, 0, 0, -len(weight) % PANEL))
    return filled.unflatten(0, (-1, PANEL)).transpose(1, 2).contiguous()


def _rows(numbers: int, inputs: int, step: int) -> int:
    return max(0, (numbers - inputs) // step + 1)


def _affine(x: Tensor, weights: Tensor, bias: Tensor, step: int, gelu: bool) -> Tensor:
    inputs = weights.shape[1]
    out = _affine_fake(x, weights, bias, step, gelu)
    native.launch(
        "affine", {"x": x, "weights": weights, "bias": bias}, {"out": out},
        rows=len(out), step=step, dim_in=inputs, dim_out=len(bias), gelu=int(gelu),
    )  # fmt: skip
    return out


def _affine_fake(x: Tensor, weights: Tensor, bias: Tensor, step: int, gelu: bool) -> Tensor:
    return x.new_empty(_rows(x.numel(), weights.shape[1], step), len(bias))


_call_affine = native.register(
    "affine(Tensor x, Tensor weights, Tensor bias, int step, bool gelu) -> Tensor", _affine, _affine_fake
)


def affine(
    x: Tensor, packed: PackedAffine, *, step: int | None = None, gelu: bool = False, backend: str = "native"
) -> Tensor:
    """Outputs [R, N] of rows of x; on the CPU alone, and without a gradient.

    Row r is the K numbers from number `step` r of x on: with x [T, C], K = 3 C and a step of 2 C, it is a
    convolution over three places with a stride of two. A row's outputs are the same to the bit whichever rows
    stand beside it, on any number of threads.

    Args:
        x: [T, C] float32.
        packed: the layer, from `pack_affine`.
        step: numbers from one row's start to the next one's; by default K, for rows that do not overlap.
        gelu: whether outputs go through GELU (by the error function).
        backend: "native" or "reference".

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel isn't built.

    Example:
        >>> layer = pack_affine(torch.ones(16, 3))
        >>> affine(torch.arange(5.0)[:, None], layer, step=1)[:, 0]
        tensor([3., 6., 9.])
    """
    check = Checker("affine", (torch.float32,), "torch.float32")
    check.tensor("x", x, ("T", "C"))
    inputs = packed.weights.shape[1]
    step = inputs if step is None else step
    check.integer("step", step, 1)
    if x.device != packed.weights.device:
        raise ValueError(f"affine: packed must be on {x.device} as x is, got {packed.weights.device}")
    if not native.use_native("affine", backend):
        return affine_reference(x, packed.plain, packed.bias, step, gelu)
    if torch.is_grad_enabled() and x.requires_grad:
        raise ValueError("affine: the kernel has no gradient; use torch.no_grad()")
    made: Tensor = _call_affine(x, packed.weights, packed.bias, step, gelu)
    return made
