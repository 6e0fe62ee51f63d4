"""Networks over planes in the order in which the kernels read them: on the CPU as they are, with their layers
in integers beside that where it is wanted, and in fp16 on CUDA.

Shared by `planes`, `shade_lines` and `render_portrait`. CUDA's order is that of planes_mma.cuh in csrc.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.ops.check import Checker
from nldf_engine.ops.packing import (
    INT8_LEVELS,
    PANEL,
    int16_levels,
    pack_int8,
    pack_int16,
    pack_panels,
    whole_panels,
)
from nldf_engine.ops.specs import GridSpec, Linear, PlanesNetwork, check_network

WIDTHS = (32, 64, 128)
PORTRAIT_WIDTHS = (32, 64)
MOST_FEATURES = 8
MOST_LEVELS = 32
INTEGERS = {"int16_weights": torch.int16, "int8_weights": torch.int8}
"""The kernel's names of layers in integers, and their dtypes."""


class Levels(NamedTuple):
    """A grid's levels: their resolutions, and their first entries with the number of all behind them."""

    resolutions: tuple[int, ...]
    offsets: tuple[int, ...]


class PlanesNumbers(NamedTuple):
    """The numbers of a packed network.

    Args:
        ambient: A, outputs of the warp net behind the warp.
        width: of the hidden layers, as packed: a multiple of 16; on CUDA 32, 64 or 128.
        warp_hidden, hidden: hidden layers of the warp net and of the second network.
        levels: the largest integer of an activation; 0 where the layers are not in integers.
        warp_scale: what one unit of the warp net moves a point in unit coordinates.
        opacity_slope: of the sigmoid of the opacity.
    """

    ambient: int
    width: int
    warp_hidden: int
    hidden: int
    levels: int
    warp_scale: float
    opacity_slope: float


NETWORK_SCHEMA = "Tensor[] network, int[] sizes, float[] scales"
"""How `PackedPlanes.arguments` stand in the schema of an operation."""


@dataclass(frozen=True)
class PackedPlanes:
    """A network in the order in which the kernel of its device reads it; made by `pack_planes`.

    On the CPU tables and the box are the parameters themselves. On CUDA tables are float16 copies, and
    weights the bits of fp16 in an int16 tensor.

    Args:
        box: [4] as in `PlanesNetwork`.
        depths: [M + 1] z of the planes, then of the middle one.
        warp_table, tables: the warp's features and every plane's, [entries, features].
        weights, biases: of all layers in the order of use, flat.
        integers, worth: of all layers in int16 or int8, see `pack_int16` and `pack_int8`, flat; else empty.
        sums: of all layers in int8, see `pack_int8`, flat; else empty.
        warp_levels, levels: of the warp's grid and of every plane's, see `GridSpec`.
        numbers: the fields without tensors.
    """

    box: Tensor
    depths: Tensor
    warp_table: Tensor
    tables: tuple[Tensor, ...]
    weights: Tensor
    biases: Tensor
    integers: Tensor
    worth: Tensor
    sums: Tensor
    warp_levels: Levels
    levels: Levels
    numbers: PlanesNumbers

    @property
    def width(self) -> int:
        """Of the hidden layers, as packed."""
        return self.numbers.width

    @property
    def planes(self) -> int:
        """M."""
        return len(self.tables)

    @property
    def features(self) -> int:
        """Of one level, as packed."""
        return self.warp_table.shape[1]

    @property
    def arguments(self) -> tuple[list[Tensor], list[int], list[float]]:
        """All of it as torch's schemas can say it, NETWORK_SCHEMA; `from_arguments` is the way back."""
        tensors = [self.box, self.depths, self.weights, self.biases, self.integers, self.worth, self.sums]
        tensors += [self.warp_table, *self.tables]
        *counts, warp_scale, opacity_slope = self.numbers
        grids = (self.warp_levels, self.levels)
        levels = [len(grid.resolutions) for grid in grids]
        rest = [size for grid in grids for size in (*grid.resolutions, *grid.offsets)]
        return tensors, [*counts, *levels, *rest], [warp_scale, opacity_slope]

    @classmethod
    def from_arguments(
        cls, tensors: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float]
    ) -> PackedPlanes:
        """The network of `arguments`."""
        box, depths, weights, biases, integers, worth, sums, warp_table, *tables = tensors
        *numbers, warp_count, count = sizes[:7]
        # There is one offset more than resolutions.
        first, second, third = 7 + warp_count, 8 + 2 * warp_count, 8 + 2 * warp_count + count
        warp_levels = Levels(tuple(sizes[7:first]), tuple(sizes[first:second]))
        levels = Levels(tuple(sizes[second:third]), tuple(sizes[third:]))
        return cls(
            box, depths, warp_table, tuple(tables), weights, biases, integers, worth, sums, warp_levels,
            levels, PlanesNumbers(*numbers, *scales),
        )  # fmt: skip


class HostNetwork:
    """The kernel's struct of a network as a dictionary, `fields`, with the memory that it points to.

    Raises:
        TypeError: a table of another device, or not packed for this one.
        ValueError: a table of another size than its offsets say.
    """

    def __init__(self, network: PackedPlanes) -> None:
        box, warp_table, tables = network.box, network.warp_table, network.tables
        stored = torch.float16 if box.device.type == "cuda" else box.dtype
        if any(t.dtype != stored or t.device != box.device for t in (warp_table, *tables)):
            raise TypeError(f"planes: tables must be {stored} on {box.device}; pack the network there")
        warp_levels, levels = network.warp_levels, network.levels
        entries = levels.offsets[-1]
        if warp_table.shape[0] != warp_levels.offsets[-1] or any(t.shape[0] != entries for t in tables):
            raise ValueError("planes: a table has another number of rows than its offsets say")
        numbers = network.numbers._asdict()
        tensors = {
            "box": box, "depths": network.depths, "warp_table": warp_table, "weights": network.weights,
            "biases": network.biases, "integer_scales": network.worth, "integer_sums": network.sums,
        }  # fmt: skip
        found = network.integers
        integers = {name: found.data_ptr() * (found.dtype is kind) for name, kind in INTEGERS.items()}
        arrays = {
            "tables": [table.data_ptr() for table in tables], "warp_resolutions": warp_levels.resolutions,
            "warp_offsets": warp_levels.offsets, "resolutions": levels.resolutions, "offsets": levels.offsets,
        }  # fmt: skip
        held = {name: array("q", values) for name, values in arrays.items()}
        self._held = network, held
        self.fields: dict[str, float] = {
            **{name: tensor.data_ptr() for name, tensor in tensors.items()},  # of an empty one it is 0
            **integers,
            **{name: values.buffer_info()[0] for name, values in held.items()},
            "warp_levels": len(warp_levels.resolutions), "levels": len(levels.resolutions),
            "int16_levels": numbers.pop("levels"), "features": network.features, "planes": network.planes,
            **numbers,
        }  # fmt: skip


@torch.no_grad()
def pack_planes(network: PlanesNetwork, precision: str = "fp32") -> PackedPlanes:
    """A network in the kernel's order: weights are copied, on the CPU tables are not. Do it once a change.

    On CUDA tables and weights are rounded to fp16 (see `pack_planes_half`).

    Args:
        network: float32 or float64 on one device.
        precision: on the CPU "int16": what has no gradients computes the layers' products in integers of 12
            to 16 bits, with a scale for each output feature and each ray; or "int8": in such of 8 bits. Any
            other: as the network is.

    Raises:
        TypeError, ValueError: a parameter doesn't fit the others, or on CUDA the kernel.
    """
    check_network(Checker("pack_planes"), network)
    if network.box.device.type == "cuda":
        return pack_planes_half(network)
    width = network.layers[0][0].shape[0]
    wide = whole_panels(width)
    weights, biases = [], []
    for layers in (network.warp_layers, network.layers):
        for i, (weight, bias) in enumerate(layers):
            weight, inputs = _filled(layers, i)
            weights.append(pack_panels(weight, inputs).flatten())
            if bias is not None:
                biases.append(F.pad(bias, (0, whole_panels(len(weight)) - len(bias))))
    tables = (network.warp_table.detach(), *(table.detach() for table in network.tables))
    packed = _collect(network, wide, tables, torch.cat(weights), torch.cat(biases))
    if precision not in ("int16", "int8"):
        return packed
    if network.box.dtype != torch.float32:
        raise TypeError(f"pack_planes: {precision} must be made of torch.float32, got {network.box.dtype}")
    return _with_integers(packed, network, precision)


def _filled(layers: tuple[Linear, ...], number: int) -> tuple[Tensor, int]:
    """A layer's weight, and inputs that it is to have: hidden layers are filled up to whole panels, and what
    reads them with zeros."""
    weight = layers[number][0]
    wide = whole_panels(layers[0][0].shape[0])
    outputs = wide if number + 1 < len(layers) else weight.shape[0]
    return F.pad(weight, (0, 0, 0, outputs - len(weight))), wide if number else weight.shape[1]


def _with_integers(packed: PackedPlanes, network: PlanesNetwork, precision: str) -> PackedPlanes:
    """The network with its layers in int16 or int8 too."""
    filled = []
    for layers in (network.warp_layers, network.layers):
        for i in range(len(layers)):
            weight, inputs = _filled(layers, i)
            filled.append(F.pad(weight, (0, inputs - weight.shape[1])))
    if precision == "int16":
        levels = int16_levels(max(weight.shape[1] for weight in filled) + 1)
        made = [(*pack_int16(weight, levels), packed.sums) for weight in filled]
    else:
        levels = INT8_LEVELS
        made = [pack_int8(F.pad(w, (0, -w.shape[1] % 4, 0, -len(w) % PANEL))) for w in filled]
    integers, worth, sums = (torch.cat([t.flatten() for t in part]) for part in zip(*made, strict=True))
    numbers = packed.numbers._replace(levels=levels)
    return replace(packed, integers=integers, worth=worth, sums=sums, numbers=numbers)


def _collect(
    network: PlanesNetwork, width: int, tables: tuple[Tensor, ...], weights: Tensor, biases: Tensor
) -> PackedPlanes:
    """Packed `weights`, `biases` and `tables` (the warp's first) of a network with what it says besides."""
    middle = sum(network.depths) / len(network.depths)
    return PackedPlanes(
        box=network.box,
        depths=network.box.new_tensor([*network.depths, middle]),
        warp_table=tables[0],
        tables=tables[1:],
        weights=weights,
        biases=biases,
        integers=weights.new_empty(0, dtype=torch.int16),
        worth=biases.new_empty(0),
        sums=biases.new_empty(0),
        warp_levels=Levels(network.warp_spec.resolutions, network.warp_spec.offsets),
        levels=Levels(network.spec.resolutions, network.spec.offsets),
        numbers=PlanesNumbers(
            network.ambient, width, len(network.warp_layers) - 1, len(network.layers) - 1, 0,
            network.warp_scale, network.opacity_slope,
        ),
    )  # fmt: skip


def fits_planes_half(network: PlanesNetwork) -> str:
    """Why the CUDA kernels don't take a network; empty where they do."""
    width, features = network.layers[0][0].shape[0], network.spec.features
    levels = max(len(network.spec.resolutions), len(network.warp_spec.resolutions))
    if width > WIDTHS[-1]:
        return f"widths up to {WIDTHS[-1]}, got {width}"
    if features > MOST_FEATURES or levels > MOST_LEVELS:
        return f"up to {MOST_LEVELS} levels of {MOST_FEATURES} features, got {levels} of {features}"
    return ""


@torch.no_grad()
def pack_planes_half(network: PlanesNetwork) -> PackedPlanes:
    """A network as the CUDA kernels read it, on the network's device.

    Layers are filled up to the next of the widths 32, 64 and 128, and features to four or eight, with zeros.

    Args:
        network: float32.

    Raises:
        TypeError: the parameters are not float32.
        ValueError: a size that the kernels don't take, or a number beyond fp16's range.
    """
    if network.box.dtype != torch.float32:
        raise TypeError(f"pack_planes: the network must be torch.float32 on CUDA, got {network.box.dtype}")
    if problem := fits_planes_half(network):
        raise ValueError(f"pack_planes: the CUDA kernels take {problem}")
    width = next(w for w in WIDTHS if w >= network.layers[0][0].shape[0])
    features = network.spec.features
    wide = features + -features % 4
    warp = (_spread(network.warp_layers[0][0], network.warp_spec, 1), *_weights(network.warp_layers[1:]))
    main = (_spread(network.layers[0][0], network.spec, len(network.depths)), *_weights(network.layers[1:]))
    weights = torch.cat(
        [_pieces(w, width, i, len(layers)) for layers in (warp, main) for i, w in enumerate(layers)]
    )
    biases = []
    for layers in (network.warp_layers, network.layers):
        for i, (_, bias) in enumerate(layers):
            if bias is not None:
                most = width if i + 1 < len(layers) else len(bias) + -len(bias) % 16
                biases.append(F.pad(bias, (0, most - len(bias))))
    tables = [
        _half("a table", F.pad(table, (0, wide - features)))
        for table in (network.warp_table, *network.tables)
    ]
    return _collect(network, width, tuple(tables), weights, torch.cat(biases))


def _weights(layers: tuple[Linear, ...]) -> list[Tensor]:
    return [weight for weight, _ in layers]


def _spread(weight: Tensor, spec: GridSpec, grids: int) -> Tensor:
    """[W, in'] of a first layer's [W, in]: every level's columns filled up to four or eight."""
    rest = -spec.features % 4
    count = grids * spec.out_features
    levels = weight[:, :count].reshape(len(weight), -1, spec.features)
    return torch.cat([F.pad(levels, (0, rest)).flatten(1), weight[:, count:]], 1)


def _pieces(weight: Tensor, width: int, layer: int, layers: int) -> Tensor:
    """The int16 bits of layer number `layer` of `layers`: [in, out] in pieces of 16 x 16, see the header."""
    rows = width if layer + 1 < layers else len(weight) + -len(weight) % 16
    columns = width if layer else weight.shape[1] + -weight.shape[1] % 16
    filled = F.pad(weight, (0, columns - weight.shape[1], 0, rows - len(weight)))
    # out = 16 N + 8 n + g; in = 16 K + 8 k + 2 q + i of hidden layers, 16 K + 4 q + 2 k + i of the first.
    cut = filled.view(rows // 16, 2, 8, columns // 16, 2, 4, 2)
    if layer == 0:
        cut = filled.view(rows // 16, 2, 8, columns // 16, 4, 2, 2).transpose(4, 5)
    order = cut.permute(3, 0, 2, 5, 1, 4, 6)  # K, N, g, q (the lane), then n, k (the word), i
    return _half("a weight", order).flatten().view(torch.int16)


def _half(name: str, value: Tensor) -> Tensor:
    half = value.detach().half().contiguous()
    if not half.isfinite().all():
        raise ValueError(f"pack_planes: {name} can't be held in fp16 (beyond 65504)")
    return half
