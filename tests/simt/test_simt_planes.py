"""The light field over planes on CUDA: the kernel's own source, run thread by thread on the CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nldf_engine.ops.packed_planes import pack_planes_half
from simt.planes_problem import PLANES, Shape, assert_agrees, network, rays, run
from simt.runner import ROOT, Builder, Fault, Library, Source

SHAPES = {
    "usual": Shape(),
    "torso": Shape((0.0,), ambient=0, width=32, warp_hidden=1, hidden=2),
    "hashed, wide": Shape(width=128, hidden=2, log2_table=8),
    "more weights than shared memory takes": Shape(width=128, hidden=4),
    "nine planes": Shape(tuple(0.01 * i for i in range(9)), features=8, ambient=5, width=40),
    "three features": Shape(features=3, ambient=3, width=20, warp_hidden=1, hidden=1),
}

pytestmark = pytest.mark.timeout(900)  # the first test waits for the compiler


@pytest.fixture(scope="session")
def libraries(builder: Builder) -> dict[bool, Library]:
    """The kernel, plain and with the checker."""
    return dict(zip((False, True), builder.build_all([(PLANES, False), (PLANES, True)]), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(libraries, shape):
    """Every network shape, under several schedules and numbers of rays, gives the reference's results."""
    net = network(SHAPES[shape])
    for count in (1, 15, 33, 150):
        given = rays(net, 2, count)
        for seed in (0, 1, 2 + count):
            assert_agrees(run(libraries[False], net, given, seed), net, given)


def test_warps_walk_several_tiles(libraries):
    """A batch of more tiles than warps run at once is finished, ray by ray."""
    net = network(SHAPES["hashed, wide"])
    given = rays(net, 3, 190)
    assert_agrees(run(libraries[False], net, given, 3), net, given)


@pytest.mark.parametrize("shape", SHAPES)
def test_has_no_race(libraries, shape):
    """No schedule shows a race, an access out of bounds, or a read of what nobody wrote."""
    net = network(SHAPES[shape])
    given = rays(net, 2, 37)
    for seed in (0, 1, 7):
        assert_agrees(run(libraries[True], net, given, seed), net, given)


def test_no_rays_launch_nothing(libraries):
    """Without rays nothing is launched."""
    net = network(SHAPES["torso"])
    run(libraries[False], net, rays(net, 2, 0))
    assert libraries[False].stats["launches"] == 0


# Where, what is replaced and by what; the last: found by the checker alone.
MMA, CUDA = "planes_mma.cuh", "planes_cuda.cu"
FAULTS = {
    "no barrier behind the lines": (CUDA, "    __syncwarp();\n    PlanesWarp", "    PlanesWarp", True),
    "no barrier behind the network": (CUDA, "    __syncwarp();\n    if (mine)", "    if (mine)", True),
    "no barrier behind the warp": (MMA, "    __syncwarp();\n    network<false>", "    network<false>", True),
    "outputs over inputs": (
        MMA, "    __syncwarp();  // the inputs have been read from where the outputs go\n", "", True,
    ),
    "no barrier behind the weights": (CUDA, "  __syncthreads();\n", "", True),
    "b's registers swapped": (MMA, "x[i][j], b.x, b.y", "x[i][j], b.y, b.x", False),
    "a's registers swapped": (MMA, "j + r / 2][2 * (r % 2)]", "j + r % 2][2 * (r / 2)]", False),
    "another plane's warp": (MMA, "place.stride + 2 * grid;", "place.stride;", False),
    "levels of the warp": (MMA, "Warp ? i : net.warp_levels + i", "i", False),
    "rays beyond the last": (CUDA, "lane < kRows && within < args.rays", "lane < kRows", False),
    "another frame's bias": (CUDA, "args.bias + frame * Width", "args.bias", False),
}  # fmt: skip
ALWAYS = {"no barrier behind the warp", "a's registers swapped"}


def plant(name: str) -> Source:
    """The source, its header within it, with a fault in one of them."""
    file, old, new, _ = FAULTS[name]
    texts = {f: (ROOT / "csrc/ops" / f).read_text() for f in (MMA, CUDA)}
    assert old in texts[file], "the source has changed: bring the fault up to date"
    texts[file] = texts[file].replace(old, new)
    header = texts[MMA].replace("#pragma once", "")
    return replace(PLANES, text=texts[CUDA].replace(f'#include "ops/{MMA}"', header))


@pytest.fixture(scope="module")
def faulty(builder: Builder, selected: list[str]) -> dict[str, Library]:
    """The faulty sources' libraries, compiled several at a time."""
    built = builder.build_all([(plant(name), FAULTS[name][3]) for name in selected])
    return dict(zip(selected, built, strict=True))


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.thorough) for name in FAULTS]
)
def test_a_fault_turns_red(faulty, name):
    """Each planted fault is found, by the runner or by the comparison."""
    library = faulty[name]
    net = network(SHAPES["usual"])
    given = rays(net, 2, 70)
    with pytest.raises((Fault, AssertionError)):
        for seed in range(6):
            assert_agrees(run(library, net, given, seed), net, given)


def test_sizes_that_do_not_fit_are_named():
    """A network that the kernels don't take is refused by what is too large."""
    net = network(Shape(width=129))
    with pytest.raises(ValueError, match="the CUDA kernels take widths up to 128, got 129"):
        pack_planes_half(net)
    net = network(SHAPES["usual"])
    net.tables[0][3, 1] = 1e6
    with pytest.raises(ValueError, match=r"a table can't be held in fp16 \(beyond 65504\)"):
        pack_planes_half(net)
    assert pack_planes_half(network(SHAPES["torso"])).weights.dtype == torch.int16
