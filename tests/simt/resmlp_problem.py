"""A residual MLP for the fused CUDA kernels on the runner: inputs, an emulation of their rounding, runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nldf_engine.ops.beams import BeamEncoding
from nldf_engine.ops.reference import beams_reference
from nldf_engine.ops.resmlp_chain import sum_segments
from nldf_engine.ops.resmlp_cuda import pack_resmlp_cuda
from nldf_engine.ops.specs import ResmlpWeights
from simt.runner import ROOT, Library, Source

RAYS_PER_FRAME = 100


@dataclass(frozen=True)
class Network:
    """Weights that fp16 holds exactly, inputs [R, in], and the frames' biases [F, W].

    Where there are rays, origins and directions [R, 3], the inputs are their encoding in float64.
    """

    input: Tensor
    head_bias: Tensor
    weights: ResmlpWeights
    rays: tuple[Tensor, Tensor] | None = None
    encoding: BeamEncoding | None = None

    @property
    def layers(self) -> int:
        return len(self.weights.body)

    def emulate(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, list[Tensor]]:
        """Outputs [R, out], and the activations [R, W] after each layer.

        In float32 every activation is rounded to fp16, as the kernels do; in float64 nothing is.
        """

        def stored(x: Tensor) -> Tensor:
            return x.half().to(dtype) if dtype == torch.float32 else x

        w = self.weights
        frame = torch.arange(len(self.input)) // RAYS_PER_FRAME
        x = stored(self.input.to(dtype)) @ w.head.to(dtype).T + self.head_bias.to(dtype)[frame]
        first = x = stored(x.relu())
        seen = [x]
        for i in range(0, self.layers, 2):
            hidden = stored((x @ w.body[i].to(dtype).T + w.body_bias[i].to(dtype)).relu())
            x = stored(x + hidden @ w.body[i + 1].to(dtype).T + w.body_bias[i + 1].to(dtype))
            seen += [hidden, x]
        if self.layers:
            x = stored(x + first)
        return x @ w.tail.to(dtype).T + w.tail_bias.to(dtype), seen


def network(rays: int, in_dim: int = 48, width: int = 64, layers: int = 2, out_dim: int = 13) -> Network:
    """Random weights whose activations keep their size over the layers."""
    g = torch.Generator().manual_seed(rays)

    def matrix(rows: int, columns: int, gain: float = 1.0) -> Tensor:
        return (gain * columns**-0.5 * torch.randn(rows, columns, generator=g)).half().float()

    def vector(size: int) -> Tensor:
        return 0.1 * torch.randn(size, generator=g)

    body = [matrix(width, width, 1.4 if i % 2 == 0 else (2 / layers) ** 0.5) for i in range(layers)]
    biases = [vector(width) for _ in range(layers)]
    weights = ResmlpWeights(
        matrix(width, in_dim, 1.4), tuple(body), tuple(biases), matrix(out_dim, width), vector(out_dim)
    )
    frames = -(-rays // RAYS_PER_FRAME)
    return Network(
        2 * torch.rand(rays, in_dim, generator=g) - 1, 0.3 * torch.randn(frames, width, generator=g), weights
    )


def beams(
    rays: int, points: int, frequencies: int, width: int = 64, layers: int = 2, out_dim: int = 13
) -> Network:
    """A network whose input the kernel makes of rays that pass by the origin."""
    encoding = BeamEncoding(0.5, 1.1, points, frequencies, 4.0)
    net = network(rays, encoding.columns, width, layers, out_dim)
    g = torch.Generator().manual_seed(rays + points)
    origins = torch.tensor([0.02, -0.01, -0.8]) + 0.01 * torch.randn(rays, 3, generator=g)
    directions = torch.nn.functional.normalize(
        torch.tensor([0.0, 0.0, 1.0]) + 0.2 * torch.randn(rays, 3, generator=g), dim=-1
    )
    numbers = (encoding.near, encoding.far, points, frequencies, encoding.scale)
    exact = beams_reference(origins.double(), directions.double(), *numbers, 1, None)
    return replace(net, input=exact, rays=(origins, directions), encoding=encoding)


def plain(rays: int, width: int, layers: int, matrices: list[Tensor]) -> Network:
    """Weights of zeros and ones and small integers as inputs: every kernel's result is exact."""
    base = network(rays, width, width, layers)
    zeros = tuple(torch.zeros(width) for _ in range(layers))
    tail = torch.eye(13, width)
    weights = ResmlpWeights(matrices[0], tuple(matrices[1:]), zeros, tail, torch.zeros(13))
    values = torch.randint(-8, 9, base.input.shape, generator=torch.Generator().manual_seed(1)).float()
    return replace(base, input=values, head_bias=torch.zeros_like(base.head_bias), weights=weights)


@dataclass(frozen=True)
class Result:
    out: Tensor
    pixels: Tensor
    dump: Tensor | None


def run(
    library: Library,
    kernel: str,
    net: Network,
    *,
    rows: int = 64,
    blocks: int = 2,
    dump: int = -1,
    seed: int = 0,
) -> Result:
    """One launch of "mma", "wgmma" or "turns"; poison (NaN) is what a ray not written shows."""
    encoding = net.encoding
    packed = pack_resmlp_cuda(net.weights, kernel, encoding.points if encoding else 0)
    origins, directions = net.rays or (None, None)
    given = {"input": None if net.rays else net.input, "origins": origins, "directions": directions}
    present = {name: tensor.numpy() for name, tensor in given.items() if tensor is not None}
    absent = {name: None for name, tensor in given.items() if tensor is None}
    rays, width = len(net.input), net.head_bias.shape[1]
    dumped = np.full((rays, width), np.nan, np.float16) if dump >= 0 else None
    got = library.run(
        "resmlp_wgmma" if kernel == "turns" else f"resmlp_{kernel}",
        present | {
            "weights": packed.weights.numpy(),
            "head_bias": net.head_bias.numpy(), "body_bias": packed.body_bias.numpy(),
            "tail_bias": packed.tail_bias.numpy(),
        },
        {
            "first": np.full(blocks * rows * width, -1, np.int16), "out": (rays, net.weights.tail.shape[0]),
            "pixels": (rays, 4), "dump": dumped, **absent,
        },
        seed=seed, rays=rays, rays_per_frame=RAYS_PER_FRAME,
        in_dim=encoding.places if encoding else net.input.shape[1],
        out_dim=net.weights.tail.shape[0], width=width, layers=net.layers, dump_layer=dump, rows=rows,
        blocks=blocks, turns=int(kernel == "turns"), points=encoding.points if encoding else 0,
        near=encoding.near if encoding else 0, far=encoding.far if encoding else 0,
        scale=encoding.scale if encoding else 1,
    )  # fmt: skip
    return Result(
        torch.from_numpy(got["out"]), torch.from_numpy(got["pixels"]),
        torch.from_numpy(got["dump"]) if dump >= 0 else None,
    )  # fmt: skip


def assert_agrees(got: Result, net: Network) -> None:
    """err(kernel, ref64) <= 2 err(emulation, ref64) + eps, for outputs and pixels."""
    single, double = net.emulate()[0], net.emulate(torch.float64)[0]
    pairs = [(got.out, single, double)]
    if double.shape[1] <= 16:
        pairs.append((got.pixels, sum_segments(single), sum_segments(double)))
    for i, (op, emulated, want) in enumerate(pairs):
        error = (op.double() - want).norm() / want.norm()
        allowed = 2 * (emulated.double() - want).norm() / want.norm() + 1e-5
        assert error <= allowed, f"{('out', 'pixels')[i]}: error {error:.3e}, allowed {allowed:.3e}"


def source(kernel: str, text: str | None = None) -> Source:
    """The kernel's file, or a text in its place."""
    kernel = "wgmma" if kernel == "turns" else kernel
    return Source(f"csrc/ops/resmlp_{kernel}_cuda.cu", "ops/resmlp_cuda.h", (f"resmlp_{kernel}",), text)


def text_of(kernel: str) -> str:
    return (ROOT / source(kernel).path).read_text()


def only(text: str, *widths: int) -> str:
    """The mma source for these widths alone: each takes seconds to compile."""
    return re.sub(
        r"    case (\d+):\n      return choose_rows<\d+>\(args, exec\);\n",
        lambda found: found[0] if int(found[1]) in widths else "",
        text,
    )
