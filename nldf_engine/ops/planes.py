"""The grid-encoded light field of a ray in one operation: planes, grids, networks, segment colours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.packed_planes import NETWORK_SCHEMA, HostNetwork, PackedPlanes, pack_planes
from nldf_engine.ops.packing import widen
from nldf_engine.ops.reference import planes_reference
from nldf_engine.ops.specs import PlanesNetwork, check_network


def _planes(
    origins: Tensor, directions: Tensor, warp_bias: Tensor, bias: Tensor,
    network: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    segments, opacity = _planes_fake(origins, directions, warp_bias, bias, network, sizes, scales)
    host = HostNetwork(PackedPlanes.from_arguments(network, sizes, scales))
    native.launch(
        "planes",
        {"origins": origins, "directions": directions, "warp_bias": warp_bias, "bias": bias},
        {"segments": segments, "opacity": opacity},
        network=host.fields, frames=origins.shape[0], rays=origins.shape[1],
    )  # fmt: skip
    return segments, opacity


def _planes_fake(
    origins: Tensor, directions: Tensor, warp_bias: Tensor, bias: Tensor,
    network: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    frames, rays, _ = origins.shape
    planes = PackedPlanes.from_arguments(network, sizes, scales).planes
    return origins.new_empty(frames, rays, planes, 3), origins.new_empty(frames, rays)


_call_planes = native.register(
    f"planes(Tensor origins, Tensor directions, Tensor warp_bias, Tensor bias, {NETWORK_SCHEMA})"
    " -> (Tensor, Tensor)",
    _planes,
    _planes_fake,
)


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
