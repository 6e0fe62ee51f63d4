"""Frames in one pass on CUDA: the kernel's own source, run thread by thread, against the CPU's frames."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops import PortraitPart, PortraitView
from nldf_engine.ops.packed_planes import pack_planes_half
from nldf_engine.ops.packing import widen
from simt.planes_problem import Shape, fields, network
from simt.runner import ROOT, Builder, Fault, Library, Source

PORTRAIT = Source("csrc/ops/portrait_cuda.cu", "ops/portrait.h", ("portrait",))
HEAD, TORSO = Shape(hidden=2), Shape((0.0,), ambient=0, width=32, warp_hidden=1, hidden=2)
CASES = {
    "usual": (HEAD, TORSO),
    "three hidden layers": (Shape(), TORSO),
    "one hidden layer": (Shape(hidden=1), TORSO),
    "no torso": (HEAD, None),
    "equal widths": (Shape(width=32), TORSO),
    "nearly empty": (Shape((0.0,), features=2, ambient=1, width=9), TORSO),
    "more weights than shared memory takes": (Shape(width=64, hidden=9), TORSO),
}
FRAMES = 2  # of a launch

pytestmark = pytest.mark.timeout(900)  # the first test waits for the compiler


@pytest.fixture(scope="session")
def libraries(builder: Builder) -> dict[bool, Library]:
    """The kernel, plain and with the checker."""
    return dict(zip((False, True), builder.build_all([(PORTRAIT, False), (PORTRAIT, True)]), strict=True))


def cells(size: int, rows: slice, columns: slice) -> Tensor:
    """A map of which a rectangle is marked."""
    marked = torch.zeros(size, size, dtype=torch.uint8)
    marked[rows, columns] = 1
    return marked


def frame(width: int, height: int) -> tuple[PortraitView, Tensor]:
    """Turned cameras before head and torso, and a background."""
    pose = torch.eye(4).repeat(FRAMES, 1, 1)
    pose[:, :3, 3] = torch.tensor([0.01, -0.02, -0.8])
    pose[:, 0, 2] = torch.tensor([0.05, 0.02])
    intrinsics = torch.tensor([1.9 * width, 1.9 * width, width / 2, height / 2]).repeat(FRAMES, 1)
    intrinsics[1] *= 1.1
    motion = torch.tensor([[0.98, -0.03, 0.02, 1.01, 0.01, -0.03], [1.0, 0.0, 0.0, 0.98, 0.04, 0.0]])
    background = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(2))
    return PortraitView(pose, intrinsics, 0.3, motion), background


def parts(case: str) -> list[tuple[Any, PortraitPart]]:
    """Networks and the frames' parts: head, and torso where there is one."""
    made = []
    g = torch.Generator().manual_seed(4)
    maps = cells(24, slice(6, 17), slice(7, 15)), cells(16, slice(3, 16), slice(0, 16))
    boxes = torch.tensor([-0.2, -0.25, 0.22, 0.2]), torch.tensor([0.05, 0.45, 0.95, 1.1])
    for shape, marked, box in zip(CASES[case], maps, boxes, strict=True):
        if shape is not None:
            net = network(shape)
            net.box.copy_(box)
            biases = [torch.randn(FRAMES, shape.width, generator=g) for _ in range(2)]
            made.append((net, PortraitPart(ops.pack_planes(net), *biases, marked)))
    return made


def run(library: Library, case: str, width: int, height: int, seed: int) -> Tensor:
    """One launch; the bytes."""
    view, background = frame(width, height)
    chosen = parts(case)
    arrays: dict[str, Any] = {
        "pose": view.pose.numpy(), "intrinsics": view.intrinsics.numpy(), "motion": view.motion.numpy(),
        "background": background.numpy(),
    }  # fmt: skip
    numbers: dict[str, float] = {
        "has_torso": len(chosen) - 1, "half_size": view.half_size, "width": width, "height": height,
        "frames": FRAMES,
    }  # fmt: skip
    for name, (net, part) in zip(("head", "torso"), (chosen * 2)[:2], strict=True):
        packed = pack_planes_half(net)
        more, sizes = fields(packed, f"{name}.network.")
        arrays |= more | {
            f"{name}.warp_bias": widen(part.warp_bias, packed.width).numpy(),
            f"{name}.bias": widen(part.bias, packed.width).numpy(), f"{name}.map.cells": part.cells.numpy(),
        }  # fmt: skip
        numbers |= sizes | {f"{name}.map.resolution": len(part.cells)}
    got = library.run(
        "portrait", arrays, {"out": (FRAMES, height, width, 3)}, seed=seed, dtype=np.uint8, **numbers
    )
    return torch.from_numpy(got["out"])


def assert_agrees(got: Tensor, case: str, width: int, height: int) -> None:
    """At most two in 255 from the CPU's frame in float32, and over 50 dB."""
    view, background = frame(width, height)
    chosen = [part for _, part in parts(case)]
    want = ops.render_portrait(view, chosen[0], chosen[1] if len(chosen) > 1 else None, background)
    changed = (want.float() / 255 - background).abs().amax(-1) > 0.01
    assert all(0.1 < share < 0.95 for share in changed.float().mean((1, 2))), (
        "the frame shows too little, or nothing of the background"
    )
    difference = (got.int() - want.int()).abs()
    assert difference.max() <= 2, f"{difference.max()} at {(difference.amax(-1) > 2).nonzero()[:4].tolist()}"
    assert 10 * math.log10(255**2 / max(difference.float().square().mean().item(), 1e-9)) > 50


@pytest.mark.parametrize("size", [(33, 26), (64, 64)])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_cpu(libraries, case, size):
    """Head, torso and background make the CPU's frame, whatever the widths, the size and the schedule."""
    for seed in (0, 1, 5):
        assert_agrees(run(libraries[False], case, *size, seed), case, *size)


@pytest.mark.parametrize("case", CASES)
def test_has_no_race(libraries, case):
    """No schedule shows a race, an access out of bounds, or a read of what nobody wrote.

    In a width of which the kernel writes words: the checker takes two neighbouring bytes for one.
    """
    for seed in (0, 3):
        assert_agrees(run(libraries[True], case, 32, 21, seed), case, 32, 21)


# What is replaced in csrc/ops/portrait_cuda.cu, and by what; the last: found by the checker alone.
FAULTS = {
    "no barrier behind the lines": ("      __syncwarp();\n      run", "      run", True),
    "no barrier behind the network": (
        "frame, place);\n      __syncwarp();\n      if", "frame, place);\n      if", True,
    ),
    "pixels beyond the last": ("y < args.height;", "true;", False),
    "rows beyond the last": ("row >= kPieceHeight || y + row >= args.height", "row >= kPieceHeight", False),
    "the torso over the head": (
        "float left = 1.0f - color.w;\n        color.x", "float left = 1;\n        color.x", False,
    ),
    "words from another pixel": ("pixel = 4 * word / 3", "pixel = word", False),
    "no map": ("inside && args.part[0].cells[cell]", "inside", False),
    "the first frame's biases": ("part.bias + frame * part.net.width", "part.bias", False),
    "the first frame's pixels": ("args.out + before", "args.out", False),
    "the head's weights alone": (
        "planes_load(args.part[i].net, args.part[i].at", "planes_load(args.part[0].net, args.part[0].at",
        False,
    ),
}  # fmt: skip
ALWAYS = {"the torso over the head", "no barrier behind the network"}


def plant(name: str) -> Source:
    """The source with a fault in it."""
    old, new, _ = FAULTS[name]
    text = (ROOT / PORTRAIT.path).read_text()
    assert old in text, "the source has changed: bring the fault up to date"
    return replace(PORTRAIT, text=text.replace(old, new))


@pytest.fixture(scope="module")
def faulty(builder: Builder, selected: list[str]) -> dict[str, Library]:
    """The faulty sources' libraries, compiled several at a time."""
    built = builder.build_all([(plant(name), FAULTS[name][2]) for name in selected])
    return dict(zip(selected, built, strict=True))


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.thorough) for name in FAULTS]
)
def test_a_fault_turns_red(faulty, name):
    """Each planted fault is found, by the runner or by the comparison."""
    library = faulty[name]
    with pytest.raises((Fault, AssertionError)):
        for seed in range(4):
            assert_agrees(run(library, "usual", 40, 26, seed), "usual", 40, 26)
