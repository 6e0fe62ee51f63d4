"""Networks over planes in the order in which the kernels read them: as they are on the CPU, in fp16 on CUDA.

Shared by `planes`, `shade_lines` and `render_portrait`. CUDA's order is that of planes_mma.cuh in csrc.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.ops.check import Checker
from nldf_engine.ops.packing import pack_panels, whole_panels
from nldf_engine.ops.specs import GridSpec, Linear, PlanesNetwork, check_network

WIDTHS = (32, 64, 128)
PORTRAIT_WIDTHS = (32, 64)
MOST_FEATURES = 8
MOST_LEVELS = 32


@dataclass(frozen=True)
class PackedPlanes:
    """A network in the order in which the kernel of its device reads it; made by `pack_planes`.

    On the CPU tables and the box are the parameters themselves. On CUDA tables are float16 copies, and
    weights the bits of fp16 in an int16 tensor. `numbers` are the struct's fields without tensors.
    """

    box: Tensor
    depths: Tensor
    warp_table: Tensor
    tables: tuple[Tensor, ...]
    weights: Tensor
    biases: Tensor
    warp_levels: tuple[tuple[int, ...], tuple[int, ...]]
    levels: tuple[tuple[int, ...], tuple[int, ...]]
    numbers: tuple[int, int, int, int, float, float]

    @property
    def width(self) -> int:
        """Of the hidden layers, as packed: a multiple of 16; on CUDA 32, 64 or 128."""
        return self.numbers[1]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """In the order of the operation's schema."""
        return (
            self.box, self.depths, self.warp_table, list(self.tables), self.weights, self.biases,
            *self.warp_levels, *self.levels, *self.numbers,
        )  # fmt: skip


class HostNetwork:
    """The kernel's struct of a network as a dictionary, with the arrays that it points to."""

    def __init__(
        self, box: Tensor, depths: Tensor, warp_table: Tensor, tables: Sequence[Tensor], weights: Tensor,
        biases: Tensor, warp_resolutions: Sequence[int], warp_offsets: Sequence[int],
        resolutions: Sequence[int], offsets: Sequence[int], ambient: int, width: int, warp_hidden: int,
        hidden: int, warp_scale: float, opacity_slope: float,
    ) -> None:  # fmt: skip
        stored = torch.float16 if box.device.type == "cuda" else box.dtype
        if any(t.dtype != stored or t.device != box.device for t in (warp_table, *tables)):
            raise TypeError(f"planes: tables must be {stored} on {box.device}; pack the network there")
        if warp_table.shape[0] != warp_offsets[-1] or any(t.shape[0] != offsets[-1] for t in tables):
            raise ValueError("planes: a table has another number of rows than its offsets say")
        planes, features = len(tables), warp_table.shape[1]
        tensors = {
            "box": box, "depths": depths, "warp_table": warp_table, "weights": weights, "biases": biases,
        }  # fmt: skip
        arrays = {
            "tables": [table.data_ptr() for table in tables], "warp_resolutions": warp_resolutions,
            "warp_offsets": warp_offsets, "resolutions": resolutions, "offsets": offsets,
        }  # fmt: skip
        self._held = [*tensors.values(), *tables]
        fields: dict[str, float] = {name: tensor.data_ptr() for name, tensor in tensors.items()}
        for name, values in arrays.items():
            self._held.append(array("q", values))  # type: ignore[arg-type]
            fields[name] = self._held[-1].buffer_info()[0]  # type: ignore[attr-defined]
        self.fields = fields | {
            "warp_levels": len(warp_resolutions), "levels": len(resolutions), "features": features,
            "planes": planes, "ambient": ambient, "width": width, "warp_hidden": warp_hidden,
            "hidden": hidden, "warp_scale": warp_scale, "opacity_slope": opacity_slope,
        }  # fmt: skip


@torch.no_grad()
def pack_planes(network: PlanesNetwork) -> PackedPlanes:
    """A network in the kernel's order: weights are copied, on the CPU tables are not. Do it once a change.

    On CUDA tables and weights are rounded to fp16 (see `pack_planes_half`).

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
            # Hidden layers are filled up to whole panels, and what reads them with zeros.
            outputs = wide if i + 1 < len(layers) else weight.shape[0]
            weight = F.pad(weight, (0, 0, 0, outputs - weight.shape[0]))
            weights.append(pack_panels(weight, wide if i else None).flatten())
            if bias is not None:
                biases.append(F.pad(bias, (0, whole_panels(outputs) - len(bias))))
    tables = (network.warp_table.detach(), *(table.detach() for table in network.tables))
    return _collect(network, wide, tables, torch.cat(weights), torch.cat(biases))


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
        warp_levels=(network.warp_spec.resolutions, network.warp_spec.offsets),
        levels=(network.spec.resolutions, network.spec.offsets),
        numbers=(
            network.ambient, width, len(network.warp_layers) - 1, len(network.layers) - 1,
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
