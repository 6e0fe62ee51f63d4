"""The whole residual MLP of NLDF (section 3.1) in one operation: head, blocks, one skip, tail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.packing import (
    INT8_LEVELS,
    int16_levels,
    pack_int8,
    pack_int16,
    pack_panels,
    whole_panels,
    widen,
)
from nldf_engine.ops.reference import resmlp_reference
from nldf_engine.ops.specs import ResmlpWeights

# Rays whose activations the backward pass holds at once: as many as fit this much memory, in these bounds.
WORKSPACE_BYTES = 96 << 20
LEAST_GROUP, MOST_GROUP = 192, 960
INTEGERS = {"body_int16": torch.int16, "body_int8": torch.int8}
PRECISIONS = ("fp32", "int16", "int8")


@dataclass(frozen=True)
class PackedResmlp:
    """Weights in the order in which the kernel reads them; made by `pack_resmlp`.

    The width is filled up with zeros to W', a multiple of 16.

    Args:
        head: [W'/16, in, 16].
        body: [2B, W'/16, W', 16]; or int16 [2B, W'/16, W'/2, 16, 2], or int8 [2B, W'/16, W'/4, 16, 4].
        body_scale: [2B, W'] what an integer weight of each output feature is worth; empty unless integers.
        body_sums: [2B, W'] the sums of the weights over the inputs; empty unless int8.
        body_bias: [2B, W'].
        tail: [ceil(out / 16), W', 16].
        tail_bias: [out].
        levels: the largest integer of an activation; 0 unless integers.
    """

    head: Tensor
    body: Tensor
    body_scale: Tensor
    body_sums: Tensor
    body_bias: Tensor
    tail: Tensor
    tail_bias: Tensor
    levels: int = 0

    @property
    def arguments(self) -> tuple[Tensor | int, ...]:
        """The packed tensors in the order of the operation's schema."""
        body = (self.body, self.body_scale, self.body_sums, self.body_bias)
        return (self.head, *body, self.tail, self.tail_bias, self.levels)


def _resmlp(
    x: Tensor, frame_bias: Tensor, head: Tensor, body: Tensor, body_scale: Tensor, body_sums: Tensor,
    body_bias: Tensor, tail: Tensor, tail_bias: Tensor, levels: int,
) -> Tensor:  # fmt: skip
    out = _resmlp_fake(x, frame_bias, head, body, body_scale, body_sums, body_bias, tail, tail_bias, levels)
    kind = body.dtype
    native.launch(
        "resmlp",
        {
            "x": x, "frame_bias": frame_bias, "head": head,
            "body": None if levels else body, "body_bias": body_bias,
            **{name: body if kind is integers else None for name, integers in INTEGERS.items()},
            "body_scale": body_scale if levels else None,
            "body_sums": body_sums if kind is torch.int8 else None, "tail": tail, "tail_bias": tail_bias,
        },
        {"out": out},
        INTEGERS,
        frames=x.shape[0], rays=x.shape[1], in_dim=x.shape[2], width=frame_bias.shape[1],
        blocks=body.shape[0] // 2, out_dim=out.shape[2], levels=levels,
    )  # fmt: skip
    return out


def _resmlp_fake(
    x: Tensor, frame_bias: Tensor, head: Tensor, body: Tensor, body_scale: Tensor, body_sums: Tensor,
    body_bias: Tensor, tail: Tensor, tail_bias: Tensor, levels: int,
) -> Tensor:  # fmt: skip
    return x.new_empty(x.shape[0], x.shape[1], tail_bias.shape[0])


_call_resmlp = native.register(
    "resmlp(Tensor x, Tensor frame_bias, Tensor head, Tensor body, Tensor body_scale, Tensor body_sums,"
    " Tensor body_bias, Tensor tail, Tensor tail_bias, int levels) -> Tensor",
    _resmlp,
    _resmlp_fake,
)


def _workspace(x: Tensor, width: int, blocks: int, out_dim: int) -> tuple[int, int]:
    """Rays of a group, and scalars of the workspace that holds their activations (csrc/ops/resmlp.h)."""
    per_ray = (4 * blocks + 2) * width + sum(whole_panels(n) for n in (x.shape[2], out_dim))
    fitting = WORKSPACE_BYTES // (per_ray * x.element_size())
    group = min(max(fitting, LEAST_GROUP), MOST_GROUP, max(x.shape[0] * x.shape[1], 1))
    return group, group * per_ray


def _resmlp_backward(
    x: Tensor, frame_bias: Tensor, head: Tensor, body: Tensor, body_bias: Tensor,
    head_transposed: Tensor, body_transposed: Tensor, tail_transposed: Tensor, v_out: Tensor, to_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    width, blocks, out_dim = frame_bias.shape[1], body.shape[0] // 2, v_out.shape[2]
    fake = _resmlp_backward_fake(
        x, frame_bias, head, body, body_bias, head_transposed, body_transposed, tail_transposed, v_out, to_x
    )
    v_x, *added = fake
    for gradient in added:
        gradient.zero_()
    v_frame_bias, v_head, v_body, v_body_bias, v_tail, v_tail_bias = added
    group, scalars = _workspace(x, width, blocks, out_dim)
    native.launch(
        "resmlp_backward",
        {
            "x": x, "frame_bias": frame_bias, "head": head, "body": body, "body_bias": body_bias,
            "head_transposed": head_transposed if to_x else None,
            "body_transposed": body_transposed, "tail_transposed": tail_transposed, "v_out": v_out,
        },
        {
            "workspace": x.new_empty(scalars), "v_x": v_x if to_x else None, "v_frame_bias": v_frame_bias,
            "v_head": v_head, "v_body": v_body, "v_body_bias": v_body_bias,
            "v_tail": v_tail, "v_tail_bias": v_tail_bias,
        },
        frames=x.shape[0], rays=x.shape[1], in_dim=x.shape[2], width=width, blocks=blocks,
        out_dim=out_dim, group=group,
    )  # fmt: skip
    return v_x, v_frame_bias, v_head, v_body, v_body_bias, v_tail, v_tail_bias


def _resmlp_backward_fake(
    x: Tensor, frame_bias: Tensor, head: Tensor, body: Tensor, body_bias: Tensor,
    head_transposed: Tensor, body_transposed: Tensor, tail_transposed: Tensor, v_out: Tensor, to_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    width, layers, out_dim = frame_bias.shape[1], body.shape[0], v_out.shape[2]
    return (
        x.new_empty(x.shape if to_x else 0),
        x.new_empty(frame_bias.shape),
        x.new_empty(width, x.shape[2]),
        x.new_empty(layers, width, width),
        x.new_empty(layers, width),
        x.new_empty(out_dim, width),
        x.new_empty(out_dim),
    )


_call_resmlp_backward = native.register(
    "resmlp_backward(Tensor x, Tensor frame_bias, Tensor head, Tensor body, Tensor body_bias,"
    " Tensor head_transposed, Tensor body_transposed, Tensor tail_transposed, Tensor v_out, bool to_x)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _resmlp_backward,
    _resmlp_backward_fake,
)


class _Resmlp(torch.autograd.Function):
    """Takes x, frame_bias, head, tail, tail_bias, then the body's weights and its biases."""

    @staticmethod
    def forward(ctx: Any, packed: PackedResmlp, x: Tensor, frame_bias: Tensor, *parameters: Tensor) -> Tensor:
        ctx.packed = packed
        ctx.save_for_backward(x, frame_bias, *parameters)
        return _run(x, frame_bias, packed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        x, frame_bias, head, tail, _, *layers = ctx.saved_tensors
        packed, body = ctx.packed, layers[: len(layers) // 2]
        width = frame_bias.shape[1]
        wide = whole_panels(width)
        to_x = ctx.needs_input_grad[1]
        v_x, v_frame_bias, v_head, v_body, v_body_bias, v_tail, v_tail_bias = _call_resmlp_backward(
            x, widen(frame_bias, wide), packed.head, packed.body, packed.body_bias,
            pack_panels(head.t(), wide) if to_x else head.new_empty(0),
            pack_panels(_stack(tuple(body), head, width, width).transpose(-1, -2), wide),
            pack_panels(tail.t()), v_out.contiguous(), to_x,
        )  # fmt: skip
        if wide != width:
            v_frame_bias, v_head, v_tail = v_frame_bias[:, :width], v_head[:width], v_tail[:, :width]
            v_body, v_body_bias = v_body[:, :width, :width], v_body_bias[:, :width]
        gradients = (v_x if to_x else None, v_frame_bias, v_head, v_tail, v_tail_bias)
        return (None, *gradients, *v_body.unbind(), *v_body_bias.unbind())


def _run(x: Tensor, frame_bias: Tensor, packed: PackedResmlp) -> Tensor:
    return _call_resmlp(x, widen(frame_bias, packed.body_bias.shape[1]), *packed.arguments)


def _stack(parts: tuple[Tensor, ...], like: Tensor, *shape: int) -> Tensor:
    return torch.stack(parts) if parts else like.new_empty(0, *shape)


@torch.no_grad()
def pack_resmlp(weights: ResmlpWeights, precision: str = "fp32") -> PackedResmlp:
    """Weights in the kernel's order. Costs about as much as copying them: do it once a change of weights.

    Args:
        weights: float32 or float64 on one device.
        precision: "fp32" (the weights' own dtype); "int16": the body's products in integers of 12 to 16 bits
            with a scale for each output feature and each ray, or "int8": in such of 8 bits; all else stays in
            float32.

    Returns:
        a copy, which later changes of the weights don't reach.

    Raises:
        TypeError, ValueError: a weight doesn't fit the others.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"pack_resmlp: precision must be 'fp32', 'int16' or 'int8', got {precision!r}")
    check = Checker("pack_resmlp")
    check.tensor("head", weights.head.contiguous(), ("W", "in"))
    if len(weights.body) % 2 or len(weights.body_bias) != len(weights.body):
        raise ValueError(
            "pack_resmlp: body must hold two weights a block and body_bias as many biases, "
            f"got {len(weights.body)} and {len(weights.body_bias)}"
        )
    for i, (weight, bias) in enumerate(zip(weights.body, weights.body_bias, strict=True)):
        check.tensor(f"body[{i}]", weight, ("W", "W"))
        check.tensor(f"body_bias[{i}]", bias, ("W",))
    check.tensor("tail", weights.tail, ("out", "W"))
    check.tensor("tail_bias", weights.tail_bias, ("out",))
    width = weights.head.shape[0]
    wide = whole_panels(width)
    body = _stack(weights.body, weights.head, width, width)
    body_scale = body_sums = weights.head.new_empty(0)
    levels = 0
    if precision == "fp32":
        body = pack_panels(body, wide)
    elif body.dtype != torch.float32 or body.device.type != "cpu":
        raise TypeError(
            f"pack_resmlp: {precision} must be made of torch.float32 on the CPU, "
            f"got {body.dtype} on {body.device}"
        )
    elif precision == "int16":
        levels = int16_levels(wide)
        body, body_scale = pack_int16(F.pad(body, (0, wide - width)), levels)
    else:
        levels = INT8_LEVELS
        body, body_scale, body_sums = pack_int8(F.pad(body, (0, wide - width, 0, wide - width)))
    return PackedResmlp(
        head=pack_panels(weights.head),
        body=body,
        body_scale=body_scale,
        body_sums=body_sums,
        body_bias=F.pad(_stack(weights.body_bias, weights.head, width), (0, wide - width)),
        tail=pack_panels(weights.tail, wide),
        tail_bias=weights.tail_bias.clone(),
        levels=levels,
    )


def resmlp(
    x: Tensor, frame_bias: Tensor, weights: ResmlpWeights,
    *, packed: PackedResmlp | None = None, backend: str = "native",
) -> Tensor:  # fmt: skip
    """The residual MLP of NLDF on the rays of F frames.

    y = relu(head x + frame_bias); z = y, then z += fc2(relu(fc1(z))) for each block;
    out = tail(z + y), or tail(y) where there are no blocks.

    Args:
        x: [F, P, in] inputs of P rays a frame.
        frame_bias: [F, W] the first layer's bias: its own plus the frame code's share.
        weights: the parameters.
        packed: `pack_resmlp(weights)`, where the caller keeps it; otherwise they are packed here.
        backend: "native" or "reference".

    Returns:
        [F, P, out], with no activation.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> eye = torch.eye(16)
        >>> weights = ResmlpWeights(eye, (eye, eye), (torch.zeros(16),) * 2, eye[:3], torch.zeros(3))
        >>> resmlp(torch.ones(1, 2, 16), torch.zeros(1, 16), weights)[0, 0]
        tensor([3., 3., 3.])
    """
    check = Checker("resmlp")
    check.tensor("x", x, ("F", "P", "in"))
    check.tensor("frame_bias", frame_bias, ("F", "W"))
    check.tensor("head", weights.head.contiguous(), ("W", "in"))
    if not native.use_native("resmlp", backend):
        return resmlp_reference(
            x, frame_bias, weights.head, weights.body, weights.body_bias, weights.tail, weights.tail_bias
        )
    parameters = (weights.head, weights.tail, weights.tail_bias, *weights.body, *weights.body_bias)
    packed = packed or pack_resmlp(weights)
    gradient = any(tensor.requires_grad for tensor in (x, frame_bias, *parameters))
    if not (torch.is_grad_enabled() and gradient):
        return _run(x, frame_bias, packed)
    if packed.levels:
        raise ValueError("resmlp: packed holds integer weights, which have no gradient; pack them as 'fp32'")
    return _Resmlp.apply(packed, x, frame_bias, *parameters)
