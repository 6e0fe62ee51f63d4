"""Networks over planes for the CUDA kernels on the runner: parameters, an emulation of rounding, runs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.ops import GridSpec, PackedPlanes, PlanesNetwork
from nldf_engine.ops.packed_planes import pack_planes_half
from nldf_engine.ops.packing import widen
from nldf_engine.ops.reference import grid_reference
from nldf_engine.ops.specs import Linear
from simt.runner import Library, Source

PLANES = Source("csrc/ops/planes_cuda.cu", "ops/planes.h", ("planes",))


@dataclass(frozen=True)
class Shape:
    """Sizes of a network: its planes' depths, features, ambient numbers, width, layers of both networks."""

    depths: tuple[float, ...] = (-0.05, 0.04)
    features: int = 4
    ambient: int = 4
    width: int = 64
    warp_hidden: int = 2
    hidden: int = 3
    log2_table: int = 19


def network(shape: Shape) -> PlanesNetwork:
    """Random parameters that fp16 holds exactly."""
    g = torch.Generator().manual_seed(shape.width + shape.features)

    def draw(*size: int, gain: float = 1.0) -> Tensor:
        return (gain * torch.randn(*size, generator=g)).half().float()

    def layers(inputs: int, hidden: int, outputs: int) -> tuple[Linear, ...]:
        sizes = [inputs, *[shape.width] * hidden, outputs]
        return tuple(
            (draw(b, a, gain=(2 / a) ** 0.5), None if i == 0 else 0.1 * torch.randn(b, generator=g))
            for i, (a, b) in enumerate(pairwise(sizes))
        )

    planes, features = len(shape.depths), shape.features
    warp_spec = GridSpec(2, features, (4, 9))
    spec = GridSpec(2, features, (5, 16, 40), log2_table=shape.log2_table)
    return PlanesNetwork(
        box=torch.tensor([-0.2, -0.25, 0.22, 0.2]), depths=shape.depths,
        warp_spec=warp_spec, warp_table=draw(warp_spec.entries, features),
        spec=spec, tables=tuple(draw(spec.entries, features) for _ in shape.depths),
        warp_layers=layers(warp_spec.out_features + 2, shape.warp_hidden, 2 * planes + shape.ambient),
        layers=layers(planes * spec.out_features + shape.ambient, shape.hidden, 3 * planes + 1),
        warp_scale=0.02, opacity_slope=3.0,
    )  # fmt: skip


def rays(net: PlanesNetwork, frames: int, count: int) -> dict[str, Tensor]:
    """Rays towards the planes, some beside the box, and the frames' biases."""
    g = torch.Generator().manual_seed(count)
    directions = 0.2 * torch.randn(frames, count, 3, generator=g)
    directions[..., 2] = 1
    width = net.layers[0][0].shape[0]
    biases = {name: torch.randn(frames, width, generator=g) for name in ("warp_bias", "bias")}
    return {
        "origins": torch.tensor([0.01, 0.02, -0.8]).repeat(frames, count, 1), "directions": directions,
        **biases,
    }  # fmt: skip


def emulate(net: PlanesNetwork, given: dict[str, Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Segments and opacity; in float32 activations are rounded to fp16, as the kernel does."""

    def stored(x: Tensor) -> Tensor:
        return x.half().to(dtype) if dtype == torch.float32 else x

    def layers(x: Tensor, bias: Tensor, made: tuple[Linear, ...]) -> Tensor:
        frames = len(bias)
        first = (stored(x) @ made[0][0].to(dtype).T).view(frames, -1, bias.shape[1]) + bias[:, None]
        hidden = stored(F.relu(first)).flatten(0, 1)
        for weight, b in made[1:-1]:
            hidden = stored(F.relu(F.linear(hidden, weight.to(dtype), b.to(dtype))))
        return F.linear(hidden, made[-1][0].to(dtype), made[-1][1].to(dtype))

    origins, directions, warp_bias, bias = (t.to(dtype) for t in given.values())
    frames, count, _ = origins.shape
    planes, low = len(net.depths), net.box[:2].to(dtype)
    size = net.box[2:].to(dtype) - low
    slope = directions[..., :2] / directions[..., 2:]
    start = ((origins[..., :2] - origins[..., 2:] * slope - low) / size).reshape(-1, 2)
    slope = (slope / size).reshape(-1, 2)
    middle = start + sum(net.depths) / planes * slope
    seen = grid_reference(middle, net.warp_table.to(dtype), net.warp_spec)
    warp = layers(torch.cat([seen, 2 * middle - 1], 1), warp_bias, net.warp_layers)
    parts = [
        grid_reference(start + z * slope + net.warp_scale * warp[:, 2 * i : 2 * i + 2], t.to(dtype), net.spec)
        for i, (z, t) in enumerate(zip(net.depths, net.tables, strict=True))
    ]
    out = layers(torch.cat([*parts, warp[:, 2 * planes :]], 1), bias, net.layers)
    opacity = torch.sigmoid(net.opacity_slope * out[:, -1:])
    segments = (out[:, :-1] + 0.5 / planes) * opacity
    return segments.view(frames, count, planes, 3), opacity.view(frames, count)


def fields(packed: PackedPlanes, prefix: str) -> tuple[dict[str, Any], dict[str, float]]:
    """A packed network as the runner's arrays and numbers, their names behind `prefix`."""
    of = packed.numbers
    arrays = {
        "box": packed.box.numpy(), "depths": packed.depths.numpy(), "warp_table": packed.warp_table.numpy(),
        "tables": [table.numpy() for table in packed.tables], "weights": packed.weights.numpy(),
        "biases": packed.biases.numpy(),
        "int16_weights": packed.integers.numpy(), "int8_weights": packed.integers[:0].to(torch.int8).numpy(),
        "integer_scales": packed.worth.numpy(), "integer_sums": packed.sums.numpy(),
        "warp_resolutions": np.array(packed.warp_levels[0]), "warp_offsets": np.array(packed.warp_levels[1]),
        "resolutions": np.array(packed.levels[0]), "offsets": np.array(packed.levels[1]),
    }  # fmt: skip
    numbers = {
        "warp_levels": len(packed.warp_levels[0]), "levels": len(packed.levels[0]),
        "features": packed.warp_table.shape[1], "planes": len(packed.tables),
        "ambient": of.ambient, "width": of.width, "warp_hidden": of.warp_hidden, "hidden": of.hidden,
        "warp_scale": of.warp_scale, "opacity_slope": of.opacity_slope,
        "int16_levels": of.levels,
    }  # fmt: skip
    return {prefix + k: v for k, v in arrays.items()}, {prefix + k: v for k, v in numbers.items()}


def run(
    library: Library, net: PlanesNetwork, given: dict[str, Tensor], seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Segments and opacity of one launch; poison (NaN) is what a ray not written shows."""
    packed = pack_planes_half(net)
    wide = {k: widen(t, packed.width) if k.endswith("bias") else t for k, t in given.items()}
    arrays, numbers = fields(packed, "network.")
    frames, count, _ = given["origins"].shape
    got = library.run(
        "planes",
        {name: tensor.numpy() for name, tensor in wide.items()} | arrays,
        {"segments": (frames, count, len(net.depths), 3), "opacity": (frames, count)},
        seed=seed, frames=frames, rays=count, **numbers,
    )  # fmt: skip
    return torch.from_numpy(got["segments"]), torch.from_numpy(got["opacity"])


def assert_agrees(got: tuple[Tensor, Tensor], net: PlanesNetwork, given: dict[str, Tensor]) -> None:
    """err(kernel, ref64) <= 2 err(emulation, ref64) + eps, for segments and opacity."""
    single, double = emulate(net, given, torch.float32), emulate(net, given, torch.float64)
    for name, op, emulated, want in zip(("segments", "opacity"), got, single, double, strict=True):
        assert op.shape == want.shape
        error = (op.double() - want).norm() / want.norm()
        allowed = 2 * (emulated.double() - want).norm() / want.norm() + 2e-5
        assert error <= allowed, f"{name}: error {error:.3e}, allowed {allowed:.3e}"
