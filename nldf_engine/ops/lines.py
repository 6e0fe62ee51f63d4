"""The light field over planes with gradients, for lines of any number to a frame: what trains nldf-fast."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.grid import table_gradient
from nldf_engine.ops.packed_planes import HostNetwork, PackedPlanes, pack_planes
from nldf_engine.ops.packing import PANEL, pack_panels, whole_panels, widen
from nldf_engine.ops.reference import lines_reference
from nldf_engine.ops.specs import PlanesNetwork, check_network

_MOST_LAYERS = 32

_NETWORK = (
    "Tensor box, Tensor depths, Tensor warp_table, Tensor[] tables, Tensor weights, Tensor biases,"
    " int[] warp_resolutions, int[] warp_offsets, int[] resolutions, int[] offsets, int ambient, int width,"
    " int warp_hidden, int hidden, float warp_scale, float opacity_slope"
)


def _check_starts(starts: Sequence[int], lines: int, frames: int) -> None:
    falling = any(b < a for a, b in pairwise(starts))
    if len(starts) != frames + 1 or starts[0] != 0 or starts[-1] != lines or falling:
        raise ValueError(
            f"shade_lines: starts must be {frames + 1} numbers that rise from 0 to N={lines}, "
            f"got {list(starts)}"
        )


def _sizes(
    tables: Sequence[Tensor], warp_table: Tensor, network: Sequence[Any]
) -> tuple[list[int], int, int]:
    """Inputs and outputs of the two networks up to whole panels, their width, and how many hidden layers."""
    planes, features, (ambient, width, warp_hidden, hidden) = len(tables), warp_table.shape[1], network[6:10]
    ends = (
        len(network[2]) * features + 2, 2 * planes + ambient,
        planes * len(network[4]) * features + ambient, 3 * planes + 1,
    )  # fmt: skip
    return [whole_panels(size) for size in ends], width, warp_hidden + hidden


def _lines(
    lines: Tensor, starts: Sequence[int], keep: bool, warp_bias: Tensor, bias: Tensor, box: Tensor,
    depths: Tensor, warp_table: Tensor, tables: Sequence[Tensor], *network: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    _check_starts(starts, len(lines), len(bias))
    segments, opacity, kept = _lines_fake(
        lines, starts, keep, warp_bias, bias, box, depths, warp_table, tables, *network
    )
    host, held = HostNetwork(box, depths, warp_table, tables, *network), array("q", starts)
    native.launch(
        "lines",
        {"lines": lines, "warp_bias": warp_bias, "bias": bias},
        {"segments": segments, "opacity": opacity, "kept": kept if keep else None},
        network=host.fields, frames=len(bias), starts=held.buffer_info()[0],
    )  # fmt: skip
    return segments, opacity, kept


def _lines_fake(
    lines: Tensor, starts: Sequence[int], keep: bool, warp_bias: Tensor, bias: Tensor, box: Tensor,
    depths: Tensor, warp_table: Tensor, tables: Sequence[Tensor], *network: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    count = lines.shape[0]
    ends, width, hidden = _sizes(tables, warp_table, network)
    # A frame's last vector of rays is filled up: by less than a panel.
    rows = count + PANEL * bias.shape[0] if keep else 0
    kept = lines.new_empty(rows, 2 * (len(tables) + 1) + sum(ends) + hidden * width)
    return lines.new_empty(count, len(tables), 3), lines.new_empty(count), kept


def _lines_backward(
    lines: Tensor, starts: Sequence[int], warp_bias: Tensor, bias: Tensor, transposed: Tensor,
    v_segments: Tensor, v_opacity: Tensor, kept: Tensor, parts: int, box: Tensor, depths: Tensor,
    warp_table: Tensor, tables: Sequence[Tensor], *network: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    _check_starts(starts, len(lines), len(bias))
    outputs = _lines_backward_fake(
        lines, starts, warp_bias, bias, transposed, v_segments, v_opacity, kept, parts, box, depths,
        warp_table, tables, *network,
    )  # fmt: skip
    v_lines, v_warp_bias, v_bias, v_weights, v_biases, *grids = outputs
    # Sums of every part, of which the kernel leaves the whole sums in the first.
    sums = [x.new_zeros(parts, *x.shape) for x in (v_warp_bias, v_bias, v_weights, v_biases)]
    host, held = HostNetwork(box, depths, warp_table, tables, *network), array("q", starts)
    native.launch(
        "lines_backward",
        {
            "lines": lines, "warp_bias": warp_bias, "bias": bias, "transposed": transposed,
            "v_segments": v_segments, "v_opacity": v_opacity, "kept": kept,
        },
        {
            "v_lines": v_lines,
            **dict(zip(("v_warp_bias", "v_bias", "v_weights", "v_biases"), sums, strict=True)),
            **dict(zip(("warp_places", "v_warp_features", "places", "v_features"), grids, strict=True)),
        },
        network=host.fields, frames=len(bias), starts=held.buffer_info()[0], parts=parts,
    )  # fmt: skip
    return (v_lines, *(x[0].clone() for x in sums), *grids)


def _lines_backward_fake(
    lines: Tensor, starts: Sequence[int], warp_bias: Tensor, bias: Tensor, transposed: Tensor,
    v_segments: Tensor, v_opacity: Tensor, kept: Tensor, parts: int, box: Tensor, depths: Tensor,
    warp_table: Tensor, tables: Sequence[Tensor], *network: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    count, planes, features = lines.shape[0], len(tables), warp_table.shape[1]
    warp_levels, levels = len(network[2]), len(network[4])
    (warp_in, warp_out, into, out), width, hidden = _sizes(tables, warp_table, network)
    inside, ends, ins = (hidden - 2) * width, warp_out + out, warp_in + into
    return (
        lines.new_empty(count, 4),
        lines.new_empty(bias.shape[0], width), lines.new_empty(bias.shape[0], width),
        lines.new_empty(width * (ins + inside + ends)), lines.new_empty(inside + ends),
        lines.new_empty(count, 2), lines.new_empty(count, warp_levels * features),
        lines.new_empty(planes, count, 2), lines.new_empty(planes, count, levels * features),
    )  # fmt: skip


_call_lines = native.register(
    f"lines(Tensor lines, int[] starts, bool keep, Tensor warp_bias, Tensor bias, {_NETWORK})"
    " -> (Tensor, Tensor, Tensor)",
    _lines,
    _lines_fake,
)
_call_lines_backward = native.register(
    "lines_backward(Tensor lines, int[] starts, Tensor warp_bias, Tensor bias, Tensor transposed,"
    f" Tensor v_segments, Tensor v_opacity, Tensor kept, int parts, {_NETWORK})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _lines_backward,
    _lines_backward_fake,
)


def _parameters(network: PlanesNetwork) -> list[Tensor]:
    """All that learns: tables, then weights, then biases."""
    layers = (*network.warp_layers, *network.layers)
    biases = [bias for _, bias in layers if bias is not None]
    return [network.warp_table, *network.tables, *(weight for weight, _ in layers), *biases]


def _transposes(weights: Sequence[Tensor], tails: set[int], width: int) -> Tensor:
    """The layers' transposes, packed; hidden outputs are filled up to `width`."""
    return torch.cat([
        pack_panels(weight.t(), None if i in tails else width).flatten() for i, weight in enumerate(weights)
    ])  # fmt: skip


def _unpack(
    packed: Tensor, weights: Sequence[Tensor], firsts: set[int], tails: set[int], width: int
) -> list[Tensor]:
    """Gradients [outputs, inputs] of the layers from where the kernel lays them."""
    made, start = [], 0
    for i, weight in enumerate(weights):
        outputs = whole_panels(weight.shape[0]) if i in tails else width
        inputs = whole_panels(weight.shape[1]) if i in firsts else width
        block = packed[start : start + outputs * inputs].view(outputs, inputs)
        made.append(block[: weight.shape[0], : weight.shape[1]])
        start += outputs * inputs
    return made


class _Lines(torch.autograd.Function):
    """Takes lines, both biases, and `_parameters` of the network."""

    @staticmethod
    def forward(
        ctx: Any, network: PlanesNetwork, packed: PackedPlanes, starts: Sequence[int], lines: Tensor,
        warp_bias: Tensor, bias: Tensor, *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.network, ctx.packed, ctx.starts = network, packed, starts
        segments, opacity, kept = _call_lines(
            lines,
            starts,
            True,
            widen(warp_bias, packed.width),
            widen(bias, packed.width),
            *packed.arguments,
        )
        ctx.save_for_backward(lines, warp_bias, bias, kept, *parameters)
        return segments, opacity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_segments: Tensor, v_opacity: Tensor) -> tuple[Tensor | None, ...]:
        lines, warp_bias, bias, kept, *parameters = ctx.saved_tensors
        network, packed = ctx.network, ctx.packed
        planes, first = len(network.depths), len(network.warp_layers)
        layers = first + len(network.layers)
        tables, weights = parameters[: planes + 1], parameters[planes + 1 : planes + 1 + layers]
        firsts, tails, width = {0, first}, {first - 1, layers - 1}, packed.width
        out = _call_lines_backward(
            lines, ctx.starts, widen(warp_bias, width), widen(bias, width),
            _transposes(weights, tails, width),
            v_segments.contiguous(), v_opacity.contiguous(), kept, torch.get_num_threads(), *packed.arguments,
        )  # fmt: skip
        v_lines, v_warp_bias, v_bias, v_weights, v_biases, *grids = out
        warp_places, v_warp_features, places, v_features = grids
        specs = [network.warp_spec, *[network.spec] * planes]
        v_tables = [
            table_gradient(x, table, spec, v)
            for spec, table, x, v in zip(
                specs, tables, (warp_places, *places), (v_warp_features, *v_features), strict=True
            )
        ]  # fmt: skip
        own, start = [], 0
        for i, weight in enumerate(weights):
            if i not in firsts:
                own.append(v_biases[start : start + weight.shape[0]])
                start += whole_panels(weight.shape[0]) if i in tails else width
        frame = (v[:, : bias.shape[1]] for v in (v_warp_bias, v_bias))
        v_layers = _unpack(v_weights, weights, firsts, tails, width)
        return None, None, None, v_lines, *frame, *v_tables, *v_layers, *own


def shade_lines(
    lines: Tensor, starts: Sequence[int], warp_bias: Tensor, bias: Tensor, network: PlanesNetwork,
    *, backend: str = "native",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`ops.planes` for lines in unit coordinates, of any number to a frame, with gradients.

    Gradients flow to lines, biases, tables, weights and the layers' own biases. Between the passes the
    activations are kept: about 1.8 KB a line for nldf-fast. The result does not depend on the number of
    threads; the gradients of what all lines share are sums whose order does.

    Args:
        lines: [N, 4] start x, y and slope x, y in unit coordinates of the network's box: a line crosses the
            plane z at start + z * slope. Those of a frame lie one behind the other.
        starts: F + 1 numbers that rise from 0 to N: frame f has lines starts[f] ... starts[f + 1] - 1.
        warp_bias, bias: [F, W] of the two networks' first layers: their own and the frame inputs' share.
        network: the parameters.
        backend: "native" or "reference".

    Returns:
        segments [N, M, 3] and opacity [N].

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.
    """
    check = Checker("shade_lines")
    check.tensor("lines", lines, ("N", 4))
    check.tensor("warp_bias", warp_bias, ("F", "W"))
    check.tensor("bias", bias, ("F", "W"))
    check_network(check, network)
    _check_starts(starts, len(lines), len(bias))
    check.integer("the number of layers", len(network.warp_layers) + len(network.layers), 4, _MOST_LAYERS)
    if not native.use_native("shade_lines", backend):
        return lines_reference(lines, starts, warp_bias, bias, network)
    packed, parameters = pack_planes(network), _parameters(network)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (lines, warp_bias, bias, *parameters)):
        return _Lines.apply(network, packed, starts, lines, warp_bias, bias, *parameters)
    wide = widen(warp_bias, packed.width), widen(bias, packed.width)
    segments, opacity, _ = _call_lines(lines, starts, False, *wide, *packed.arguments)
    return segments, opacity
