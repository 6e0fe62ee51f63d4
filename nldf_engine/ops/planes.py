"""The grid-encoded light field of a ray in one operation: planes, grids, networks, segment colours."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.grid import GridSpec
from nldf_engine.ops.reference import planes_reference
from nldf_engine.ops.resmlp import PANEL, _pack

_MOST_PLANES = 16

Linear = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class PlanesNetwork:
    """The parameters of a light field over M planes, or of a learned picture (one plane).

    Args:
        box: [4] x, y of the corner at (0, 0) of unit coordinates, and of the one at (1, 1).
        depths: z of the planes.
        warp_spec, warp_table: the grid that the warp net reads; specs are two-dimensional and linear.
        spec, tables: the grid of every plane; as many features a level as the warp's.
        warp_layers: (weight, bias) of the warp net: hidden layers, then a tail with 2 M outputs (x, y of
            every plane's warp) and A further ones. The first bias is None: it comes with the frame.
        layers: the same of the second network, whose tail has 3 M + 1 outputs.
        warp_scale: what one unit of the warp net moves a point in unit coordinates.
        opacity_slope: of the sigmoid of the opacity.
    """

    box: Tensor
    depths: tuple[float, ...]
    warp_spec: GridSpec
    warp_table: Tensor
    spec: GridSpec
    tables: tuple[Tensor, ...]
    warp_layers: tuple[Linear, ...]
    layers: tuple[Linear, ...]
    warp_scale: float
    opacity_slope: float

    @property
    def ambient(self) -> int:
        """A, outputs of the warp net behind the warp."""
        return self.warp_layers[-1][0].shape[0] - 2 * len(self.depths)


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


def _planes(
    origins: Tensor, directions: Tensor, warp_bias: Tensor, bias: Tensor, box: Tensor, depths: Tensor,
    warp_table: Tensor, tables: Sequence[Tensor], *network: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    segments, opacity = _planes_fake(
        origins, directions, warp_bias, bias, box, depths, warp_table, tables, *network
    )
    host = HostNetwork(box, depths, warp_table, tables, *network)
    native.launch(
        "planes",
        {"origins": origins, "directions": directions, "warp_bias": warp_bias, "bias": bias},
        {"segments": segments, "opacity": opacity},
        network=host.fields, frames=origins.shape[0], rays=origins.shape[1],
    )  # fmt: skip
    return segments, opacity


def _planes_fake(
    origins: Tensor, directions: Tensor, warp_bias: Tensor, bias: Tensor, box: Tensor, depths: Tensor,
    warp_table: Tensor, tables: Sequence[Tensor], *network: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    frames, rays, _ = origins.shape
    return origins.new_empty(frames, rays, len(tables), 3), origins.new_empty(frames, rays)


_call_planes = native.register(
    "planes(Tensor origins, Tensor directions, Tensor warp_bias, Tensor bias, Tensor box, Tensor depths,"
    " Tensor warp_table, Tensor[] tables, Tensor weights, Tensor biases, int[] warp_resolutions,"
    " int[] warp_offsets, int[] resolutions, int[] offsets, int ambient, int width, int warp_hidden,"
    " int hidden, float warp_scale, float opacity_slope) -> (Tensor, Tensor)",
    _planes,
    _planes_fake,
)


def check_network(check: Checker, network: PlanesNetwork) -> None:
    """Checks the parameters of a network against each other.

    Raises:
        TypeError, ValueError: a parameter doesn't fit the others.
    """
    if not isinstance(network, PlanesNetwork):
        raise TypeError(f"{check.op}: network must be a PlanesNetwork, got {type(network).__name__}")
    planes, features = len(network.depths), network.spec.features
    check.integer("the number of planes", planes, 1, _MOST_PLANES)
    check.tensor("box", network.box, (4,))
    for name, spec in (("warp_spec", network.warp_spec), ("spec", network.spec)):
        if spec.dims != 2 or spec.interpolation != "linear" or spec.features != features:
            raise ValueError(
                f"{check.op}: {name} must be two-dimensional and linear with {features} features, got {spec}"
            )
    check.tensor("warp_table", network.warp_table, (network.warp_spec.entries, features))
    if len(network.tables) != planes:
        raise ValueError(f"{check.op}: tables must be {planes} as depths are, got {len(network.tables)}")
    for i, table in enumerate(network.tables):
        check.tensor(f"tables[{i}]", table, (network.spec.entries, features))
    check.integer("the warp net's further outputs", network.ambient, 0)
    warp_inputs = network.warp_spec.out_features + 2
    _check_layers(check, "warp_layers", network.warp_layers, warp_inputs, None)
    inputs = planes * network.spec.out_features + network.ambient
    _check_layers(check, "layers", network.layers, inputs, 3 * planes + 1)


def _check_layers(
    check: Checker, name: str, layers: tuple[Linear, ...], inputs: int, outputs: int | None
) -> None:
    if len(layers) < 2 or layers[0][1] is not None:
        raise ValueError(f"{check.op}: {name} must be a layer without bias, and at least one more")
    sizes: list[int | str] = [inputs] + ["W"] * (len(layers) - 1) + [outputs or f"{name}'s outputs"]
    for i, (weight, bias) in enumerate(layers):
        check.tensor(f"{name}[{i}] weight", weight.contiguous(), (sizes[i + 1], sizes[i]))
        if i:
            check.tensor(f"{name}[{i}] bias", bias, (sizes[i + 1],))


@torch.no_grad()
def pack_planes(network: PlanesNetwork) -> PackedPlanes:
    """A network in the kernel's order: weights are copied, on the CPU tables are not. Do it once a change.

    On CUDA tables and weights are rounded to fp16 (see `planes_half.pack_planes_half`).

    Raises:
        TypeError, ValueError: a parameter doesn't fit the others, or on CUDA the kernel.
    """
    check_network(Checker("pack_planes"), network)
    if network.box.device.type == "cuda":
        from nldf_engine.ops.planes_half import pack_planes_half

        return pack_planes_half(network)
    width = network.layers[0][0].shape[0]
    wide = width + -width % PANEL
    weights, biases = [], []
    for layers in (network.warp_layers, network.layers):
        for i, (weight, bias) in enumerate(layers):
            # Hidden layers are filled up to whole panels, and what reads them with zeros.
            outputs = wide if i + 1 < len(layers) else weight.shape[0]
            weight = F.pad(weight, (0, 0, 0, outputs - weight.shape[0]))
            weights.append(_pack(weight, wide if i else None).flatten())
            if bias is not None:
                biases.append(F.pad(bias, (0, outputs + -outputs % PANEL - len(bias))))
    tables = (network.warp_table.detach(), *(table.detach() for table in network.tables))
    return collect(network, wide, tables, torch.cat(weights), torch.cat(biases))


def collect(
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


def widen(bias: Tensor, width: int) -> Tensor:
    """[F, width] of biases [F, W], filled up with zeros as packed weights are."""
    rest = width - bias.shape[1]
    return F.pad(bias, (0, rest)) if rest > 0 else bias


def planes(
    origins: Tensor, directions: Tensor, warp_bias: Tensor, bias: Tensor, network: PlanesNetwork,
    *, packed: PackedPlanes | None = None, backend: str = "native",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Segment colours and opacity of rays of F frames; the layers are written down in csrc/ops/planes.h.

    In unit coordinates of the box, a ray crosses plane z at start + z * slope. The warp net reads its grid
    where the ray crosses the middle plane, every plane's grid is read at its crossing moved by warp_scale
    times its warp, and the second network gives c_i and o from these features and the ambient numbers:
    opacity = sigmoid(opacity_slope * o), and segment i is (c_i + 1 / (2 M)) * opacity. No gradients.

    On CUDA tables, weights and activations are rounded to fp16, and sums are fp32; widths up to 128 and eight
    features a level are taken there.

    Args:
        origins, directions: [F, P, 3], not parallel to the planes.
        warp_bias, bias: [F, W] of the two networks' first layers: their own and the frame inputs' share.
        network: the parameters.
        packed: `pack_planes(network)`, where the caller keeps it; otherwise it is packed here.
        backend: "native" or "reference".

    Returns:
        segments [F, P, M, 3] and opacity [F, P].

    Raises:
        TypeError, ValueError: an argument doesn't fit, or one asks for a gradient on "native".
        MissingBackend: the kernel for this device isn't built.
    """
    check = Checker("planes")
    check.tensor("origins", origins, ("F", "P", 3))
    check.tensor("directions", directions, ("F", "P", 3))
    check.tensor("warp_bias", warp_bias, ("F", "W"))
    check.tensor("bias", bias, ("F", "W"))
    check_network(check, network)
    if not native.use_native("planes", backend):
        return planes_reference(origins, directions, warp_bias, bias, network)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (origins, directions, warp_bias, bias)):
        raise ValueError("planes: the kernel has no gradient; use torch.no_grad() or backend='reference'")
    packed = packed or pack_planes(network)
    biases = widen(warp_bias, packed.width), widen(bias, packed.width)
    return _call_planes(origins, directions, *biases, *packed.arguments)
