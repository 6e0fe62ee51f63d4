"""The light field over planes with gradients, for lines of any number to a frame: what trains nldf-fast."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.grid import table_gradient
from nldf_engine.ops.packed_planes import NETWORK_SCHEMA, HostNetwork, PackedPlanes, pack_planes
from nldf_engine.ops.packing import PANEL, pack_panels, whole_panels, widen
from nldf_engine.ops.reference import lines_reference
from nldf_engine.ops.specs import PlanesNetwork, check_network

_MOST_LAYERS = 32


def _check_starts(starts: Sequence[int], lines: int, frames: int) -> None:
    falling = any(b < a for a, b in pairwise(starts))
    if len(starts) != frames + 1 or starts[0] != 0 or starts[-1] != lines or falling:
        raise ValueError(
            f"shade_lines: starts must be {frames + 1} numbers that rise from 0 to N={lines}, "
            f"got {list(starts)}"
        )


class _Widths(NamedTuple):
    """Of the two networks' layers, in whole panels; `inner` is what hidden layers but the first ones read."""

    warp_in: int
    warp_out: int
    main_in: int
    main_out: int
    hidden: int
    inner: int


def _widths(network: PackedPlanes) -> _Widths:
    planes, features, numbers = network.planes, network.features, network.numbers
    return _Widths(
        whole_panels(len(network.warp_levels.resolutions) * features + 2),
        whole_panels(2 * planes + numbers.ambient),
        whole_panels(planes * len(network.levels.resolutions) * features + numbers.ambient),
        whole_panels(3 * planes + 1),
        (numbers.warp_hidden + numbers.hidden) * numbers.width,
        (numbers.warp_hidden + numbers.hidden - 2) * numbers.width,
    )


def _lines(
    lines: Tensor, starts: Sequence[int], keep: bool, warp_bias: Tensor, bias: Tensor,
    network: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    _check_starts(starts, len(lines), len(bias))
    segments, opacity, kept = _lines_fake(lines, starts, keep, warp_bias, bias, network, sizes, scales)
    host, held = HostNetwork(PackedPlanes.from_arguments(network, sizes, scales)), array("q", starts)
    native.launch(
        "lines",
        {"lines": lines, "warp_bias": warp_bias, "bias": bias},
        {"segments": segments, "opacity": opacity, "kept": kept if keep else None},
        network=host.fields, frames=len(bias), starts=held.buffer_info()[0],
    )  # fmt: skip
    return segments, opacity, kept


def _lines_fake(
    lines: Tensor, starts: Sequence[int], keep: bool, warp_bias: Tensor, bias: Tensor,
    network: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    packed = PackedPlanes.from_arguments(network, sizes, scales)
    count, planes, widths = lines.shape[0], packed.planes, _widths(packed)
    # A frame's last vector of rays is filled up: by less than a panel.
    rows = count + PANEL * bias.shape[0] if keep else 0
    ends = widths.warp_in + widths.warp_out + widths.main_in + widths.main_out
    kept = lines.new_empty(rows, 2 * (planes + 1) + ends + widths.hidden)
    return lines.new_empty(count, planes, 3), lines.new_empty(count), kept


def _lines_backward(
    lines: Tensor, starts: Sequence[int], warp_bias: Tensor, bias: Tensor, transposed: Tensor,
    v_segments: Tensor, v_opacity: Tensor, kept: Tensor, parts: int,
    network: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float],
) -> tuple[Tensor, ...]:  # fmt: skip
    _check_starts(starts, len(lines), len(bias))
    outputs = _lines_backward_fake(
        lines, starts, warp_bias, bias, transposed, v_segments, v_opacity, kept, parts, network, sizes, scales
    )
    v_lines, v_warp_bias, v_bias, v_weights, v_biases, *grids = outputs
    # Sums of every part, of which the kernel leaves the whole sums in the first.
    sums = [x.new_zeros(parts, *x.shape) for x in (v_warp_bias, v_bias, v_weights, v_biases)]
    host, held = HostNetwork(PackedPlanes.from_arguments(network, sizes, scales)), array("q", starts)
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
    v_segments: Tensor, v_opacity: Tensor, kept: Tensor, parts: int,
    network: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float],
) -> tuple[Tensor, ...]:  # fmt: skip
    packed = PackedPlanes.from_arguments(network, sizes, scales)
    count, planes, features, width = lines.shape[0], packed.planes, packed.features, packed.width
    widths = _widths(packed)
    read = widths.warp_in + widths.main_in + widths.inner
    written = widths.warp_out + widths.main_out
    return (
        lines.new_empty(count, 4),
        lines.new_empty(bias.shape[0], width), lines.new_empty(bias.shape[0], width),
        lines.new_empty(width * (read + written)), lines.new_empty(widths.inner + written),
        lines.new_empty(count, 2), lines.new_empty(count, len(packed.warp_levels.resolutions) * features),
        lines.new_empty(planes, count, 2),
        lines.new_empty(planes, count, len(packed.levels.resolutions) * features),
    )  # fmt: skip


_call_lines = native.register(
    f"lines(Tensor lines, int[] starts, bool keep, Tensor warp_bias, Tensor bias, {NETWORK_SCHEMA})"
    " -> (Tensor, Tensor, Tensor)",
    _lines,
    _lines_fake,
)
_call_lines_backward = native.register(
    "lines_backward(Tensor lines, int[] starts, Tensor warp_bias, Tensor bias, Tensor transposed,"
    f" Tensor v_segments, Tensor v_opacity, Tensor kept, int parts, {NETWORK_SCHEMA})"
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
            plane z at start + z * slope. Those of a frame are stored one behind the other.
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
