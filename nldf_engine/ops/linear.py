"""Linear layers of 8-bit weights, with the layer norm before and GELU or a sum behind them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import linear_reference

PANEL, QUAD = 16, 4  # outputs and inputs whose weights lie together
INPUTS, OUTPUTS = 64, 32  # their numbers are multiples of these
_TYPES = {"weights": torch.int8, "sums": torch.int32}


@dataclass(frozen=True)
class PackedLinear:
    """Weights of a layer of K inputs and N outputs, as the kernel reads them.

    Attributes:
        weights: [N / 16, K / 4, 16, 4] int8.
        sums: [N] int32, of each output's weights.
        scale: [N] float32, what one unit of a weight is worth.
        bias: [N] float32.
    """

    weights: Tensor
    sums: Tensor
    scale: Tensor
    bias: Tensor

    def part(self, first: int, last: int) -> PackedLinear:
        """The layer of outputs [first, last) alone, on the same memory; both are multiples of 32."""
        if first % OUTPUTS or last % OUTPUTS or not 0 <= first < last <= len(self.sums):
            raise ValueError(
                f"PackedLinear.part: expected multiples of {OUTPUTS} with 0 <= first < last <= "
                f"{len(self.sums)}, got {first} and {last}"
            )
        return PackedLinear(
            self.weights[first // PANEL : last // PANEL],
            *(x[first:last] for x in (self.sums, self.scale, self.bias)),
        )


def pack_linear(weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> PackedLinear:
    """Arranges a layer for `linear`.

    Args:
        weight: [N, K] int8; K is a multiple of 64, N one of 32.
        scale: [N] float32, what one unit of each output's weights is worth.
        bias: [N] float32; zeros where it is None.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
    """
    if not isinstance(weight, Tensor) or weight.dtype != torch.int8:
        came = getattr(weight, "dtype", type(weight).__name__)
        raise TypeError(f"pack_linear: weight must be a tensor of torch.int8, got {came}")
    if weight.ndim != 2 or weight.shape[0] % OUTPUTS or weight.shape[1] % INPUTS or not weight.numel():
        raise ValueError(
            f"pack_linear: weight must be [N, K] with N a multiple of {OUTPUTS} and K one of {INPUTS}, "
            f"got {list(weight.shape)}"
        )
    check = Checker("pack_linear", (torch.float32,), "torch.float32")
    check.tensor("scale", scale, ("N",))
    bias = torch.zeros_like(scale) if bias is None else bias
    check.tensor("bias", bias, ("N",))
    outputs, inputs = weight.shape
    if len(scale) != outputs or scale.device != weight.device:
        raise ValueError(
            f"pack_linear: scale must be [N={outputs}] on {weight.device} as weight is, "
            f"got {list(scale.shape)} on {scale.device}"
        )
    panels = weight.view(outputs // PANEL, PANEL, inputs // QUAD, QUAD).transpose(1, 2).contiguous()
    return PackedLinear(panels, weight.sum(1, dtype=torch.int32), scale, bias)


def _linear(
    x: Tensor, weights: Tensor, sums: Tensor, scale: Tensor, bias: Tensor, gelu: bool,
    norm_weight: Tensor | None = None, norm_bias: Tensor | None = None, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    out = x.new_empty(len(x), len(sums))
    native.launch(
        "linear",
        {
            "x": x, "norm_weight": norm_weight, "norm_bias": norm_bias, "weights": weights, "sums": sums,
            "scale": scale, "bias": bias, "residual": residual,
        },
        {"out": out}, _TYPES,
        rows=len(x), dim_in=x.shape[1], dim_out=len(sums), gelu=int(gelu),
    )  # fmt: skip
    return out


def _linear_fake(
    x: Tensor, weights: Tensor, sums: Tensor, scale: Tensor, bias: Tensor, gelu: bool,
    norm_weight: Tensor | None = None, norm_bias: Tensor | None = None, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    return x.new_empty(len(x), len(sums))


_call_linear = native.register(
    "linear(Tensor x, Tensor weights, Tensor sums, Tensor scale, Tensor bias, bool gelu,"
    " Tensor? norm_weight=None, Tensor? norm_bias=None, Tensor? residual=None) -> Tensor",
    _linear,
    _linear_fake,
)


def linear(
    x: Tensor, packed: PackedLinear, *, norm: tuple[Tensor, Tensor] | None = None, gelu: bool = False,
    residual: Tensor | None = None, backend: str = "native",
) -> Tensor:  # fmt: skip
    """A linear layer of 8-bit weights: [R, N] of rows x [R, K]; on the CPU alone, and without a gradient.

    Each row is scaled so that its largest number becomes 127, and rounded to integers; their products with
    the weights are summed exactly. A row's outputs are the same to the bit whichever rows stand beside it, on
    any number of threads. A row with a number that isn't finite gives NaN.

    Args:
        x: [R, K] float32.
        packed: the layer, from `pack_linear`.
        norm: weight and bias [K] of a layer norm that rows go through first, with an epsilon of 1e-5.
        gelu: whether outputs go through GELU (by the error function).
        residual: [R, N] float32, which is added to the outputs; not together with `gelu`.
        backend: "native" or "reference".

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel isn't built.

    Example:
        >>> layer = pack_linear(torch.ones(32, 64, dtype=torch.int8), torch.full((32,), 0.5))
        >>> linear(torch.ones(1, 64), layer)[0, 0]
        tensor(32.)
    """
    check = Checker("linear", (torch.float32,), "torch.float32")
    outputs, inputs = len(packed.sums), QUAD * packed.weights.shape[1]
    check.tensor("x", x, ("R", inputs))
    if x.device != packed.weights.device:
        raise ValueError(f"linear: packed must be on {x.device} as x is, got {packed.weights.device}")
    if norm is not None:
        check.tensor("norm[0]", norm[0], (inputs,))
        check.tensor("norm[1]", norm[1], (inputs,))
    if residual is not None:
        check.tensor("residual", residual, ("R", outputs))
        if gelu:
            raise ValueError("linear: expected gelu or a residual, got both")
    given = (packed.weights, packed.sums, packed.scale, packed.bias, gelu, *(norm or (None, None)), residual)
    if not native.use_native("linear", backend):
        return linear_reference(x, *given)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, residual)):
        raise ValueError("linear: the kernel has no gradient; use torch.no_grad()")
    made: Tensor = _call_linear(x, *given)
    return made
