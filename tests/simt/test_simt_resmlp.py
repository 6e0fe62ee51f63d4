"""The fused ResMLP kernels' own sources, run thread by thread on the CPU."""

from __future__ import annotations

import pytest
import torch

from bench.gpu import ladder
from simt.resmlp_problem import (
    Network,
    Result,
    assert_agrees,
    beams,
    network,
    only,
    plain,
    run,
    source,
    text_of,
)
from simt.runner import Builder, Library

SIZES = (1, 64, 127, 128, 129, 255)
# Kernel, rows, blocks to launch; wgmma forms clusters where there are two blocks and more than one tile.
SHAPES = {
    "mma 64": ("mma", 64, 2),
    "mma 128": ("mma", 128, 1),
    "wgmma": ("wgmma", 128, 1),
    "clusters": ("wgmma", 128, 4),
    "turns": ("turns", 128, 4),
}


@pytest.fixture(scope="session")
def libraries(builder: Builder) -> dict[tuple[str, bool], Library]:
    """Both kernels, plain and with the checker; mma for three of its widths."""
    sources = {"mma": source("mma", only(text_of("mma"), 16, 64, 256)), "wgmma": source("wgmma")}
    wanted = [(kernel, race) for kernel in sources for race in (False, True)]
    built = builder.build_all([(sources[kernel], race) for kernel, race in wanted])
    made = dict(zip(wanted, built, strict=True))
    return made | {("turns", race): made["wgmma", race] for race in (False, True)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rays", SIZES)
def test_agrees_with_the_reference(libraries, shape, rays):
    """Every number of rays, blocks and inputs, under several schedules, gives the reference's results."""
    kernel, rows, blocks = SHAPES[shape]
    width = 64 if kernel == "mma" else 256
    for layers, in_dim, out_dim in [(0, 48, 13), (2, 130, 4), (4, 1008 if width == 256 else 270, 32)]:
        net = network(rays, in_dim, width, layers, out_dim)
        for seed in (0, 1, 2 + rays):
            assert_agrees(
                run(libraries[kernel, False], kernel, net, rows=rows, blocks=blocks, seed=seed), net
            )


# Points, frequencies: whole fours, an odd number of coordinates and of pairs, the points alone.
BEAMS = [(16, 10), (3, 3), (5, 0)]


@pytest.mark.parametrize(("points", "frequencies"), BEAMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_beams_are_encoded_on_the_way(libraries, shape, points, frequencies):
    """A network given rays gives what the reference makes of their encoding, whatever the encoding's size."""
    kernel, rows, blocks = SHAPES[shape]
    net = beams(129, points, frequencies, 64 if kernel == "mma" else 256)
    for seed in (0, 1, 5):
        assert_agrees(run(libraries[kernel, False], kernel, net, rows=rows, blocks=blocks, seed=seed), net)


@pytest.mark.parametrize("shape", SHAPES)
def test_beams_have_no_race(libraries, shape):
    """Rays beyond the last are not read, and no schedule shows a race."""
    kernel, rows, blocks = SHAPES[shape]
    net = beams(130, 3, 3, 64 if kernel == "mma" else 256)
    for seed in (0, 3):
        assert_agrees(run(libraries[kernel, True], kernel, net, rows=rows, blocks=blocks, seed=seed), net)


@pytest.mark.parametrize("rows", [64, 128])
def test_mma_at_the_least_width(libraries, rows):
    """At width 16 a chunk is 16 columns: inputs, rays and up to 16 outputs agree with the reference."""
    for net in (network(129, 50, 16, 4, 16), network(65, 16, 16, 0, 4), beams(70, 5, 4, 16)):
        for seed in (0, 1, 4):
            assert_agrees(run(libraries["mma", False], "mma", net, rows=rows, seed=seed), net)
    assert_agrees(
        run(libraries["mma", True], "mma", network(129, 50, 16, 4), rows=rows, seed=2),
        network(129, 50, 16, 4),
    )


@pytest.mark.parametrize("rows", [64, 128])
def test_mma_at_the_real_width(libraries, rows):
    """The mma kernel's two-by-four grid of warps gives the reference's results."""
    net = network(129, 48, 256, 4)
    assert_agrees(run(libraries["mma", False], "mma", net, rows=rows, seed=3), net)


@pytest.mark.parametrize(("kernel", "width"), [("mma", 64), ("wgmma", 256)])
def test_the_whole_depth(libraries, kernel, width):
    """After 43 blocks the outputs' relative error is below 2e-3, and pixels are 60 dB from float64's."""
    net = network(65, 48, width, 86)
    got = run(libraries[kernel, False], kernel, net, rows=128, blocks=2, seed=5)
    assert_agrees(got, net)
    want = net.emulate(torch.float64)[0]
    assert (got.out.double() - want).norm() / want.norm() < 2e-3


@pytest.mark.parametrize("kernel", ["mma", "wgmma"])
def test_each_layer(libraries, kernel):
    """What a layer leaves behind is the emulation's, but for sums that round the other way."""
    net = network(129, 48, 64 if kernel == "mma" else 256, 4)
    for layer, want in enumerate(net.emulate()[1]):
        got = run(libraries[kernel, False], kernel, net, rows=128, dump=layer).dump
        assert got is not None
        gap = (got.float() - want).abs()
        assert gap.max() <= 4e-3 * want.abs().max(), f"layer {layer}"
        assert (gap > 0).float().mean() < 0.05, f"layer {layer}"


@pytest.mark.parametrize("kernel", ["mma", "wgmma"])
@pytest.mark.parametrize("place", ["head", "fc1", "fc2"])
def test_permutations_are_exact(libraries, kernel, place):
    """With permutations for weights and integers for inputs every layer holds exactly the permuted inputs."""
    width = 64 if kernel == "mma" else 256
    g = torch.Generator().manual_seed(2)
    eye, zero = torch.eye(width), torch.zeros(width, width)
    shuffled = eye[torch.randperm(width, generator=g)]
    matrices = {"head": [shuffled, zero, zero], "fc1": [eye, shuffled, eye], "fc2": [eye, eye, shuffled]}[
        place
    ]
    net = plain(65, width, 2, matrices)
    for layer, want in enumerate(net.emulate()[1]):
        got = run(libraries[kernel, False], kernel, net, rows=128, dump=layer)
        assert got.dump is not None and torch.equal(got.dump.float(), want), f"layer {layer}"
    assert torch.equal(got.out, net.emulate()[0])


@pytest.mark.parametrize("kernel", ["mma", "wgmma"])
def test_one_hot_weights_are_exact(libraries, kernel):
    """A single weight of one moves one input to one output, wherever in the fragments it stands."""
    width = 64 if kernel == "mma" else 256
    for row, column in [(0, 1), (9, 16), (31, 33), (width - 1, width - 8), (5, width - 1)]:
        one = torch.zeros(width, width)
        one[row, column] = 1
        net = plain(3, width, 2, [torch.eye(width), one, torch.eye(width)])
        got = run(libraries[kernel, False], kernel, net, rows=128, dump=1)
        assert got.dump is not None and torch.equal(got.dump.float(), net.emulate()[1][1])


@pytest.mark.parametrize("shape", SHAPES)
def test_has_no_race(libraries, shape):
    """No schedule shows a race, an access out of bounds, or a read of what nobody wrote."""
    kernel, rows, blocks = SHAPES[shape]
    net = network(300 if blocks == 4 else 129, 130, 64 if kernel == "mma" else 256, 4)
    for seed in (0, 1, 7):
        got = run(libraries[kernel, True], kernel, net, rows=rows, blocks=min(blocks, 2), seed=seed)
        assert_agrees(got, net)


def test_shared_memory_has_no_bank_conflicts(libraries):
    """The swizzle keeps ldmatrix free of bank conflicts."""
    run(libraries["mma", False], "mma", network(64, 48, 256, 2))
    assert libraries["mma", False].stats["ldmatrix"] > 0
    assert libraries["mma", False].stats["bank_conflicts"] == 0


@pytest.mark.parametrize("kernel", ["mma", "wgmma", "turns"])
def test_the_ladder_of_a_gpu_is_climbed(libraries, kernel):
    """The ladder of bench/gpu.sh, on the kernels' own sources: up to a second tile a block, none is red."""

    def launch(name: str, net: Network, dump: int) -> Result:
        return run(libraries[name, False], name, net, rows=128, blocks=2, dump=dump)

    for rays in ladder.counts(2):
        assert ladder.climb(launch, ladder.Rung(kernel, 2, rays))["problem"] == ""
