"""The whole residual MLP of NLDF (section 3.1) in one operation: head, blocks, one skip, tail."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import resmlp_reference

PANEL = 16  # output features that are packed together, csrc/resmlp.h


@dataclass(frozen=True)
class ResmlpWeights:
    """The parameters of a residual MLP of B blocks, as `torch.nn.Linear` keeps them.

    Args:
        head: [W, in] weight of the first layer; its bias comes with each call, one a frame.
        body: 2B weights [W, W]: fc1, fc2 of the first block, then of the second, ...
        body_bias: 2B biases [W].
        tail: [out, W].
        tail_bias: [out].
    """

    head: Tensor
    body: tuple[Tensor, ...]
    body_bias: tuple[Tensor, ...]
    tail: Tensor
    tail_bias: Tensor


@dataclass(frozen=True)
class PackedResmlp:
    """Weights in the order in which the kernel reads them; made by `pack_resmlp`.

    The width is filled up with zeros to W', a multiple of 16.

    Args:
        head: [W'/16, in, 16].
        body: [2B, W'/16, W', 16], or int16 [2B, W'/16, W'/2, 16, 2].
        body_scale: [2B, W'] what an integer weight of each output feature is worth; empty unless int16.
        body_bias: [2B, W'].
        tail: [ceil(out / 16), W', 16].
        tail_bias: [out].
        levels: the largest integer of an activation; 0 unless int16.
    """

    head: Tensor
    body: Tensor
    body_scale: Tensor
    body_bias: Tensor
    tail: Tensor
    tail_bias: Tensor
    levels: int = 0

    @property
    def arguments(self) -> tuple[Tensor | int, ...]:
        """The packed tensors in the order of the operation's schema."""
        return (self.head, self.body, self.body_scale, self.body_bias, self.tail, self.tail_bias, self.levels)


def _resmlp(
    x: Tensor, frame_bias: Tensor, head: Tensor, body: Tensor, body_scale: Tensor, body_bias: Tensor,
    tail: Tensor, tail_bias: Tensor, levels: int,
) -> Tensor:  # fmt: skip
    out = _resmlp_fake(x, frame_bias, head, body, body_scale, body_bias, tail, tail_bias, levels)
    native.launch(
        "resmlp",
        {
            "x": x, "frame_bias": frame_bias, "head": head,
            "body": None if levels else body, "body_int16": body if levels else None,
            "body_scale": body_scale if levels else None, "body_bias": body_bias,
            "tail": tail, "tail_bias": tail_bias,
        },
        {"out": out},
        frames=x.shape[0], rays=x.shape[1], in_dim=x.shape[2], width=frame_bias.shape[1],
        blocks=body.shape[0] // 2, out_dim=out.shape[2], levels=levels,
    )  # fmt: skip
    return out


def _resmlp_fake(
    x: Tensor, frame_bias: Tensor, head: Tensor, body: Tensor, body_scale: Tensor, body_bias: Tensor,
    tail: Tensor, tail_bias: Tensor, levels: int,
) -> Tensor:  # fmt: skip
    return x.new_empty(x.shape[0], x.shape[1], tail_bias.shape[0])


native.register(
    "resmlp(Tensor x, Tensor frame_bias, Tensor head, Tensor body, Tensor body_scale, Tensor body_bias,"
    " Tensor tail, Tensor tail_bias, int levels) -> Tensor",
    _resmlp,
    _resmlp_fake,
)


def _pack(weights: Tensor, inputs: int | None = None) -> Tensor:
    """[..., out, in] to [..., ceil(out / 16), in, 16], with inputs filled up to `inputs`."""
    out, known = weights.shape[-2:]
    padded = F.pad(weights, (0, (inputs or known) - known, 0, -out % PANEL))
    return padded.unflatten(-2, (-1, PANEL)).transpose(-1, -2).contiguous()


def _stack(parts: tuple[Tensor, ...], like: Tensor, *shape: int) -> Tensor:
    return torch.stack(parts) if parts else like.new_empty(0, *shape)


@torch.no_grad()
def pack_resmlp(weights: ResmlpWeights) -> PackedResmlp:
    """Weights in the kernel's order. Costs about as much as copying them: do it once a change of weights.

    Args:
        weights: float32 or float64 on one device.

    Returns:
        a copy, which later changes of the weights don't reach.

    Raises:
        TypeError, ValueError: a weight doesn't fit the others.
    """
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
    wide = width + -width % PANEL
    return PackedResmlp(
        head=_pack(weights.head),
        body=_pack(_stack(weights.body, weights.head, width, width), wide),
        body_scale=weights.head.new_empty(0),
        body_bias=F.pad(_stack(weights.body_bias, weights.head, width), (0, wide - width)),
        tail=_pack(weights.tail, wide),
        tail_bias=weights.tail_bias.clone(),
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
    packed = packed or pack_resmlp(weights)
    width = frame_bias.shape[1]
    wide = F.pad(frame_bias, (0, -width % PANEL)) if width % PANEL else frame_bias
    return torch.ops.nldf.resmlp(x, wide, *packed.arguments)
