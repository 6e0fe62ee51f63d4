"""The ladder of the fused residual MLP: kernels by layers by rays, from one ray to a second tile for every
block.

Each rung is one launch against an emulation of its rounding. Where a rung fails, what every layer left behind
is compared in turn, and the first layer that differs is named. At the end each kernel runs twenty times, and
all results have to be the same to the bit. tests/simt/test_simt_resmlp.py climbs the same ladder on the
runner that executes the .cu sources on a CPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.gpu import rows
from nldf_engine.ops import native
from nldf_engine.ops.resmlp_cuda import launch_grid, pack_resmlp_cuda
from nldf_engine.ops.specs import ResmlpWeights

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from simt.resmlp_problem import RAYS_PER_FRAME, Network, Result, assert_agrees, network

KERNELS = ("mma", "wgmma", "turns")
LAYERS = (0, 2, 8, 86)
REPEATS, REPEATED_LAYERS = 20, 8
WIDTH = 256
Launch = Callable[[str, Network, int], Result]
"""(kernel, network, layer to dump or -1) -> what one launch gave, on the CPU."""


def counts(blocks: int) -> tuple[int, ...]:
    """Numbers of rays: about one tile, about two, and one more than two tiles for each of `blocks` blocks."""
    return (1, 127, 128, 129, 255, 256, 257, blocks * 256 + 1)


@dataclass(frozen=True)
class Rung:
    """A launch of the ladder."""

    kernel: str
    layers: int
    rays: int


def rungs(blocks: int, kernels: Sequence[str] = KERNELS, layers: Sequence[int] = LAYERS) -> Iterator[Rung]:
    """All rungs, the smallest problems of every kernel first."""
    for depth in layers:
        for rays in counts(blocks):
            for kernel in kernels:
                yield Rung(kernel, depth, rays)


def climb(launch: Launch, rung: Rung) -> rows.Row:
    """The row of one rung; "problem" is empty where it agrees."""
    net = network(rung.rays, 48, WIDTH, rung.layers)
    row = {"part": "ladder", "kernel": rung.kernel, "layers": rung.layers, "rays": rung.rays, "problem": ""}
    got = launch(rung.kernel, net, -1)
    try:
        assert_agrees(got, net)
    except AssertionError as error:
        layer = first_wrong(launch, rung.kernel, net)
        wrong = (got.out - net.emulate()[0]).abs().amax(1)
        at = torch.nonzero(~(wrong <= 0.02))[:8, 0].tolist()
        row["problem"] = f"{error}; first wrong layer {layer}; rays {at}"
    return row


def first_wrong(launch: Launch, kernel: str, net: Network) -> int | None:
    """The first layer whose activations are not the emulation's; None where all are, and the tail is to
    blame."""
    for layer, want in enumerate(net.emulate()[1]):
        dumped = launch(kernel, net, layer).dump
        assert dumped is not None
        gap = (dumped.float() - want).abs().max()
        if not gap <= 4e-3 * want.abs().max():
            return layer
    return None


def repeat(launch: Launch, kernel: str, rays: int, layers: int = REPEATED_LAYERS) -> rows.Row:
    """The row of `REPEATS` launches of one problem, which have to give the same bits."""
    net = network(rays, 48, WIDTH, layers)
    first, differ = launch(kernel, net, -1), 0
    for _ in range(REPEATS - 1):
        again = launch(kernel, net, -1)
        differ += not (torch.equal(again.out, first.out) and torch.equal(again.pixels, first.pixels))
    problem = f"{differ} of {REPEATS - 1} repeats differ from the first" if differ else ""
    return {"part": "repeats", "kernel": kernel, "layers": layers, "rays": rays, "problem": problem}


def on_device(kernel: str, net: Network, dump: int) -> Result:
    """One launch on the CUDA device, straight to the kernel: what a ray that is not written shows is NaN."""
    device = torch.device("cuda", torch.cuda.current_device())

    def placed(part: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return tuple(p.to(device) for p in part) if isinstance(part, tuple) else part.to(device)

    weights = ResmlpWeights(*(placed(part) for part in vars(net.weights).values()))
    packed = pack_resmlp_cuda(weights, kernel)
    count, width, outputs = len(net.input), net.head_bias.shape[1], net.weights.tail.shape[0]
    tile, blocks = launch_grid(device, kernel, width, count)
    out = torch.full((count, outputs), float("nan"), device=device)
    pixels = torch.full((count, 4), float("nan"), device=device)
    dumped = (
        torch.full((count, width), float("nan"), device=device, dtype=torch.float16) if dump >= 0 else None
    )
    native.launch(
        "resmlp_mma" if kernel == "mma" else "resmlp_wgmma",
        {
            "head_bias": net.head_bias.to(device), "input": net.input.to(device), "origins": None,
            "directions": None, "weights": packed.weights, "body_bias": packed.body_bias,
            "tail_bias": packed.tail_bias,
        },
        {
            "first": torch.empty(blocks * tile * width, dtype=torch.int16, device=device), "out": out,
            "pixels": pixels, "dump": dumped,
        },
        {"weights": torch.int16, "first": torch.int16, "dump": torch.float16},
        rays=count, rays_per_frame=RAYS_PER_FRAME, in_dim=net.input.shape[1], out_dim=outputs, width=width,
        layers=net.layers, dump_layer=dump, rows=tile, blocks=blocks, turns=int(kernel == "turns"), points=0,
        near=0.0, far=0.0, scale=1.0,
    )  # fmt: skip
    return Result(out.cpu(), pixels.cpu(), None if dumped is None else dumped.cpu())


def main(file: str) -> None:
    """Climbs on the device, appending rows to `file`; fails where a rung did, with that kernel left out above
    it."""
    properties = torch.cuda.get_device_properties(0)
    usable = KERNELS if (properties.major, properties.minor) == (9, 0) else ("mma",)
    red: set[str] = set()
    for rung in rungs(properties.multi_processor_count, usable):
        if rung.kernel in red:
            continue
        row = climb(on_device, rung)
        rows.add(file, row)
        if row["problem"]:
            red.add(rung.kernel)
    for kernel in (kernel for kernel in usable if kernel not in red):
        row = repeat(on_device, kernel, properties.multi_processor_count * 256 + 1)
        rows.add(file, row)
        if row["problem"]:
            red.add(kernel)
    if red:
        raise SystemExit(f"ladder: {', '.join(sorted(red))} failed")
