"""Slot attention: how a point's features in several references become one (dfrf 3.2; Locatello et al. 2020).

Slots start at learned vectors, without the noise that the original adds, so that equal inputs give equal
pictures.

Shapes: P points, R references, D features of a reference's pixel, K slots of size W.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.nn.fused import PackedWeights
from nldf_engine.nn.linear import keep_spread, linear_at

# Keeps the mean over references defined where a slot attends to none.
EPSILON = 1e-8
# x, y of a point's place in a reference, in units of the picture's width.
PLACE = 2


@dataclass(frozen=True)
class FusionSizes:
    """Sizes of the fusion. The defaults are those of the paper's public code.

    Args:
        slots: K.
        width: W.
        iterations: rounds of attention.
        hidden: numbers that are made of a reference's feature and place before the point's own come in.

    Raises:
        ValueError: a size below one, or more slots or iterations than can be meant.
    """

    slots: int = 2
    width: int = 128
    iterations: int = 2
    hidden: int = 32

    def __post_init__(self) -> None:
        sizes = (self.slots, self.width, self.iterations, self.hidden)
        if min(sizes) < 1 or max(self.slots, self.iterations) > 64:
            raise ValueError(
                f"FusionSizes: expected sizes of at least 1, and at most 64 slots and iterations, got {self}"
            )


class SlotFusion(nn.Module):
    """Features and places in the references, and the encoded point, to K slots: the point's feature.

    `fc1` and `fc7` are linear in a reference's feature, and interpolation is linear too: their shares are
    computed once for each pixel (`shares`), and looked up.

    Args:
        points: size of an encoded point.
        features: D.
        sizes: see there.
    """

    def __init__(self, points: int, features: int, sizes: FusionSizes) -> None:
        super().__init__()
        self.sizes, self.features, width = sizes, features, sizes.width
        own = features + PLACE
        self.fc1 = nn.Sequential(nn.Linear(own, sizes.hidden), nn.ReLU())
        self.fc6 = nn.Linear(sizes.hidden, sizes.hidden)
        self.fc7 = nn.Sequential(nn.Linear(own + points + sizes.hidden, width), nn.LeakyReLU())
        keep_spread(linear_at(self.fc1, 0), linear_at(self.fc7, 0))
        keep_spread(self.fc6, rectified=False)
        self._inputs = features, PLACE, points, sizes.hidden
        self.slots_mu = nn.Parameter(nn.init.xavier_uniform_(torch.empty(sizes.slots, width)))
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        keep_spread(self.to_v, rectified=False)
        self.gru = nn.GRUCell(width, width)
        nn.init.normal_(self.gru.weight_ih, std=width**-0.5)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.norm_input, self.norm_slots, self.norm_pre_ff = (nn.LayerNorm(width) for _ in range(3))
        self._packed: PackedWeights[ops.PackedSlots] = PackedWeights()

    def train(self, mode: bool = True) -> SlotFusion:
        """As `nn.Module.train`; weights are packed again."""
        self._packed.forget()
        super().train(mode)
        return self

    def shares(self, features: Tensor) -> Tensor:
        """[..., hidden + W], what both layers make of features [..., D], without biases."""
        weights = [linear_at(layer, 0).weight[:, : self.features] for layer in (self.fc1, self.fc7)]
        return F.linear(features, torch.cat(weights))

    def forward(self, shares: Tensor, places: Tensor, encoded: Tensor) -> Tensor:
        """[P, K W] of shares [P, R, hidden + W], places [P, R, 2] and encoded points [P, points]."""
        hidden, wide = shares.split([self.sizes.hidden, self.sizes.width], -1)
        first, last = linear_at(self.fc1, 0), linear_at(self.fc7, 0)
        small = F.relu(hidden + F.linear(places, first.weight[:, self.features :], first.bias))
        _, of_place, of_point, of_hidden = last.weight.split(self._inputs, 1)
        mixed = F.linear(torch.cat([places, self.fc6(small)], -1), torch.cat([of_place, of_hidden], 1))
        mixed = wide + mixed + F.linear(encoded, of_point, last.bias)[:, None]
        return self.attend(F.leaky_relu(mixed, inplace=True)).flatten(1)

    def describe(self, shares: Tensor, places: Tensor, encoded: Tensor, backend: str = "native") -> Tensor:
        """[P, K W + points], the slots of `forward` and behind them the encoded points; without gradients on
        the CPU by one operation."""
        if torch.is_grad_enabled() or not shares.is_cpu or shares.dtype != torch.float32:
            return torch.cat([self(shares, places, encoded), encoded], 1)
        packed = self._packed.get(list(self.parameters()), lambda: ops.pack_slots(self.folded()))
        return ops.attend_slots(shares, places.contiguous(), encoded, packed, backend=backend)

    @torch.no_grad()
    def folded(self) -> ops.SlotsWeights:
        """The layers with all that no activation lies between multiplied, in float64 and then as they are."""

        def own(layer: nn.Linear | nn.LayerNorm) -> tuple[Tensor, Tensor]:
            return layer.weight.double(), layer.bias.double()

        def behind(weight: Tensor, bias: Tensor, first: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            """A layer behind another one, or behind what a norm scales by and adds."""
            scale, added = first
            return weight @ scale if scale.ndim > 1 else weight * scale, weight @ added + bias

        gru, last = self.gru, linear_at(self.fc7, 0)
        near, point = own(linear_at(self.fc1, 0)), own(last)
        _, of_place, of_point, of_hidden = point[0].split(self._inputs, 1)
        of_hidden, bias = behind(of_hidden, point[1], own(self.fc6))
        given = own(self.norm_input)
        key, key_bias = behind(*own(self.to_k), given)
        query = [x * self.sizes.width**-0.5 for x in behind(*own(self.to_q), own(self.norm_slots))]
        gates = behind(gru.weight_ih.double(), gru.bias_ih.double(), behind(*own(self.to_v), given))
        layers = {
            "near": (near[0][:, self.features :], near[1]),
            "point": (of_point, bias),
            "query": (key.t() @ query[0], key.t() @ query[1]),
            "score": ((key_bias @ query[0])[None], (key_bias @ query[1])[None]),
            "gates": gates,
            "own": (gru.weight_hh, gru.bias_hh),
            "first": behind(*own(linear_at(self.mlp, 0)), own(self.norm_pre_ff)),
            "second": own(linear_at(self.mlp, 2)),
        }

        def kept(x: Tensor) -> Tensor:
            return x.to(self.slots_mu).contiguous()

        return ops.SlotsWeights(
            **{name: (kept(weight), kept(bias)) for name, (weight, bias) in layers.items()},
            mix=kept(torch.cat([of_place, of_hidden], 1)), start=kept(self.slots_mu),
            rounds=self.sizes.iterations,
        )  # fmt: skip

    def attend(self, inputs: Tensor) -> Tensor:
        """[P, K, W]: slots that compete for the inputs [P, R, W] of each point.

        A query meets what the keys' layer would make of the inputs by being taken through that layer itself,
        and the values' layer is applied to their mean: both are linear, and there are fewer slots than
        references.
        """
        inputs = self.norm_input(inputs)
        slots = self.slots_mu[None]
        for _ in range(self.sizes.iterations):
            query = self.to_q(self.norm_slots(slots)) * self.sizes.width**-0.5
            likeness = self._matched(query @ self.to_k.weight, inputs)
            likeness = likeness + (query @ self.to_k.bias)[..., None]
            weights = likeness.softmax(1) + EPSILON
            weights = weights / weights.sum(2, keepdim=True)
            slots = self._update(self.to_v(torch.bmm(weights, inputs)), slots)
            slots = slots + self.mlp(self.norm_pre_ff(slots))
        return slots

    @staticmethod
    def _matched(query: Tensor, inputs: Tensor) -> Tensor:
        """[P, K, R] products of queries [P or 1, K, W] and inputs [P, R, W]; one query is for all points."""
        if len(query) == 1:
            return F.linear(inputs, query[0]).transpose(1, 2)
        return torch.bmm(query, inputs.transpose(1, 2))

    def _update(self, found: Tensor, slots: Tensor) -> Tensor:
        """The gated unit's step from slots [P or 1, K, W] by what they found [P, K, W]; as `nn.GRUCell`,
        which would compute the slots' share for each point even where all have the same."""
        gru = self.gru
        reset, keep, new = F.linear(found, gru.weight_ih, gru.bias_ih).chunk(3, -1)
        own_reset, own_keep, own_new = F.linear(slots, gru.weight_hh, gru.bias_hh).chunk(3, -1)
        keep = torch.sigmoid(keep + own_keep)
        new = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
        return new + keep * (slots - new)

    @property
    def macs(self) -> tuple[int, int]:
        """Multiply-adds, weights only: for each point; for each point and reference."""
        sizes, (_, place, points, hidden) = self.sizes, self._inputs
        square, rounds = sizes.width**2, sizes.iterations
        # In the first round queries and the slots' share of the gates are the same for all points.
        slot = rounds * (1 + 3 + 2) * square + (rounds - 1) * (2 + 3) * square
        each = place * hidden + hidden**2 + (place + hidden) * sizes.width
        return points * sizes.width + sizes.slots * slot, each + rounds * 2 * sizes.slots * sizes.width
