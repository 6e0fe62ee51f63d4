"""Slot attention over points' features in references, in one pass and without gradients (DFRF, 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.affine import PANEL, in_panels
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import slots_reference
from nldf_engine.ops.specs import PLACE, SlotsWeights


@dataclass(frozen=True)
class PackedSlots:
    """Slot attention's weights as the kernel reads them.

    Attributes:
        plain: what was packed.
        weights, biases: the layers' panels of 16 outputs, and their biases, one behind the other.
        score, start: see `csrc/ops/slots.h`.
    """

    plain: SlotsWeights
    weights: Tensor
    biases: Tensor
    score: Tensor
    start: Tensor


def pack_slots(plain: SlotsWeights) -> PackedSlots:
    """Arranges weights for `attend_slots`; what no point has a share in is computed here, in float64."""
    start, none = plain.start.double(), torch.zeros_like(plain.start[0])
    normed = F.layer_norm(start, start.shape[1:])
    query, own, score = (
        F.linear(x, *(part.double() for part in layer))
        for x, layer in ((normed, plain.query), (start, plain.own), (normed, plain.score))
    )
    rows = [*(_fill(x) for x in (start, query, *own.chunk(3, 1))), score]
    gates, own_gates = (_apart(layer) for layer in (plain.gates, plain.own))
    near, point, mix = plain.near, plain.point, (plain.mix, none)
    layers = (near, point, mix, plain.query, gates, own_gates, plain.first, plain.second)
    return PackedSlots(
        plain, torch.cat([in_panels(weight).flatten() for weight, _ in layers]),
        torch.cat([_fill(bias) for _, bias in layers]),
        torch.cat([_fill(plain.score[0][0]), plain.score[1]]), torch.cat(rows, 1).to(plain.start),
    )  # fmt: skip


def _fill(x: Tensor) -> Tensor:
    """Zeros behind the last dimension's numbers, up to whole panels."""
    return F.pad(x, (0, -x.shape[-1] % PANEL))


def _apart(layer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """A layer of three gates, each filled up."""
    weight, bias = layer
    return _fill(weight.unflatten(0, (3, -1)).mT).mT.flatten(0, 1), _fill(bias.view(3, -1)).flatten()


def _slots(
    shares: Tensor, places: Tensor, encoded: Tensor, weights: Tensor, biases: Tensor, score: Tensor,
    start: Tensor, sizes: Sequence[int],
) -> Tensor:  # fmt: skip
    out = _slots_fake(shares, places, encoded, weights, biases, score, start, sizes)
    hidden, width, rounds = sizes
    native.launch(
        "slots",
        {
            "shares": shares, "places": places, "encoded": encoded, "weights": weights, "biases": biases,
            "score": score, "start": start,
        },
        {"out": out},
        count=len(shares), references=shares.shape[1], hidden=hidden, width=width, points=encoded.shape[1],
        slots=len(start), rounds=rounds,
    )  # fmt: skip
    return out


def _slots_fake(
    shares: Tensor, places: Tensor, encoded: Tensor, weights: Tensor, biases: Tensor, score: Tensor,
    start: Tensor, sizes: Sequence[int],
) -> Tensor:  # fmt: skip
    return shares.new_empty(len(shares), len(start) * sizes[1] + encoded.shape[1])


_call_slots = native.register(
    "slots(Tensor shares, Tensor places, Tensor encoded, Tensor weights, Tensor biases, Tensor score,"
    " Tensor start, int[] sizes) -> Tensor",
    _slots,
    _slots_fake,
)


def attend_slots(
    shares: Tensor, places: Tensor, encoded: Tensor, packed: PackedSlots, *, backend: str = "native"
) -> Tensor:
    """Several references' features of each point to K slots; on the CPU alone, and without a gradient.

    The arithmetic is in `csrc/ops/slots.h`. A point's slots are the same to the bit whichever points stand
    beside it, on any number of threads.

    Args:
        shares: [P, R, h + W] float32, as all: what layers before have made of the looked-up features.
        places: [P, R, 2] where they were looked up.
        encoded: [P, E].
        packed: the weights, from `pack_slots`.
        backend: "native" or "reference".

    Returns:
        [P, K W + E]: the slots, and behind them the encoded point.

    Raises:
        TypeError, ValueError: an argument doesn't fit, or requires a gradient.
        MissingBackend: the kernel isn't built.
    """
    check = Checker("attend_slots", (torch.float32,), "torch.float32")
    plain = packed.plain
    hidden, width = len(plain.near[1]), plain.start.shape[1]
    check.tensor("shares", shares, ("P", "R", hidden + width))
    check.integer("R", shares.shape[1], 1)
    check.tensor("places", places, ("P", "R", PLACE))
    check.tensor("encoded", encoded, ("P", plain.point[0].shape[1]))
    if packed.start.device != shares.device:
        raise ValueError(
            f"attend_slots: packed must be on {shares.device} as shares is, got {packed.start.device}"
        )
    if not native.use_native("attend_slots", backend):
        return slots_reference(shares, places, encoded, plain)
    if torch.is_grad_enabled() and any(x.requires_grad for x in (shares, places, encoded)):
        raise ValueError("attend_slots: the kernel has no gradient; use torch.no_grad()")
    made: Tensor = _call_slots(
        shares, places, encoded, packed.weights, packed.biases, packed.score, packed.start,
        (hidden, width, plain.rounds),
    )  # fmt: skip
    return made
