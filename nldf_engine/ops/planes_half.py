"""Networks over planes in the order of the CUDA kernels (csrc/ops/planes_mma.cuh), rounded to fp16."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.ops.grid import GridSpec
from nldf_engine.ops.planes import Linear, PackedPlanes, PlanesNetwork, collect

WIDTHS = (32, 64, 128)
PORTRAIT_WIDTHS = (32, 64)
MOST_FEATURES = 8
MOST_LEVELS = 32


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
    return collect(network, width, tuple(tables), weights, torch.cat(biases))


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
