"""The kernel of small convolutional networks, step by step against torch, for every instruction set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nldf_engine.faces.network import Network
from nldf_engine.ops import native
from nldf_engine.ops.convnet import convnet, pack_convnet

WEIGHTS = ("w", "b")


def drawn(
    size: int, channels: int, kernel: int, stride: int, tail: list[dict], seed: int = 0
) -> tuple[dict, dict]:
    """A graph: a convolution of the picture to `channels`, tensor 1, then the nodes of `tail`; and weights.

    Nodes name weights "w<O>x<I>x<k>", "b<O>" and "s<C>"; they are made here.
    """
    first = {
        "op": "conv", "in": [0], "out": 1, "weight": f"w{channels}x3x{kernel}", "bias": f"b{channels}",
        "stride": stride, "pad": [kernel // 2] * 4, "groups": 1, "relu": False,
    }  # fmt: skip
    nodes = [first, *tail]
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for node in nodes:
        for key in ("weight", "bias", "slope"):
            if key in node:
                sizes = [int(n) for n in node[key][1:].split("x")]
                shape = [*sizes[:2], sizes[2], sizes[2]] if len(sizes) == 3 else sizes
                tensors[node[key]] = torch.randn(shape, generator=generator) / max(1, len(shape)) ** 2
    return {"size": size, "input": 0, "nodes": nodes, "outputs": {"y": nodes[-1]["out"], "x": 1}}, tensors


def agree(graph: dict, tensors: dict, batch: int = 2) -> None:
    """The kernel gives what torch gives."""
    size = graph["size"]
    pictures = torch.rand(batch, size, size, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    found = Network(graph, tensors)(pictures)
    expected = Network(graph, tensors, "reference")(pictures)
    for key, values in expected.items():
        assert found[key].shape == values.shape
        torch.testing.assert_close(found[key], values, rtol=1e-4, atol=1e-4)


def conv(
    out: int, channels: int, outputs: int, kernel: int = 1, stride: int = 1, into: int = 1, **more
) -> dict:
    """A convolution node that keeps the middle where it is."""
    pad = kernel // 2
    return {
        "op": "conv", "in": [into], "out": out, "weight": f"w{outputs}x{channels}x{kernel}",
        "bias": f"b{outputs}", "stride": stride, "pad": [pad] * 4, "groups": 1, "relu": False, **more,
    }  # fmt: skip


def depthwise(out: int, channels: int, kernel: int, stride: int = 1, **more) -> dict:
    """One kernel a channel."""
    node = conv(out, 1, channels, kernel, stride, **more)
    return {**node, "groups": channels}


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 17),
    channels=st.integers(1, 37),
    outputs=st.integers(1, 37),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    relu=st.booleans(),
)
def test_convolutions_of_any_size(size, channels, outputs, kernel, stride, relu) -> None:
    """Numbers of channels and pixels that fill no panel, kernels that hang over every side."""
    tail = [conv(2, channels, outputs, kernel, stride, relu=relu)]
    agree(*drawn(size, channels, 3, 1, tail))
    if kernel > 1:
        agree(*drawn(size, channels, 3, 1, [depthwise(2, channels, kernel, stride, relu=relu)]))


def test_padding_of_one_side() -> None:
    """TensorFlow pads an even picture below and on the right alone."""
    node = conv(2, 20, 9, 3, 2, pad=[0, 1, 0, 1])
    agree(*drawn(10, 20, 3, 1, [node]))
    agree(*drawn(10, 20, 3, 1, [depthwise(2, 20, 5, 2, pad=[1, 2, 1, 2])]))


@pytest.mark.parametrize("fewer", [5, 16, 20])
def test_a_sum_with_slopes_joins_the_convolution(fewer: int) -> None:
    """dw, pw, + what came in, prelu: two steps and the outputs; also where fewer channels are added."""
    tail = [
        depthwise(2, fewer, 3),
        conv(3, fewer, 40, into=2),
        {"op": "pad_channels", "in": [1], "out": 4, "channels": 40 - fewer},
        {"op": "add", "in": [4, 3], "out": 5},
        {"op": "prelu", "in": [5], "out": 6, "slope": "s40"},
    ]
    graph, tensors = drawn(9, fewer, 3, 2, tail)
    agree(graph, tensors)
    packed = pack_convnet(9, 0, graph["nodes"], tensors, [6, 1])
    assert len(packed.steps) == 3 + 2


def test_what_is_read_twice_is_not_swallowed() -> None:
    """A convolution whose result is wanted, or read again, stays a step of its own."""
    tail = [
        conv(2, 8, 8),
        {"op": "add", "in": [1, 2], "out": 3, "relu": True},
        {"op": "prelu", "in": [2], "out": 4, "slope": "s8"},
        {"op": "add", "in": [3, 4], "out": 5},
        {"op": "relu", "in": [5], "out": 6},
        {"op": "add", "in": [6, 2], "out": 7},
    ]
    agree(*drawn(6, 8, 3, 1, tail))


@pytest.mark.parametrize(
    "tail",
    [
        [{"op": "max_pool", "in": [1], "out": 2}],
        [{"op": "mean", "in": [1], "out": 2}, {"op": "multiply", "in": [1, 2], "out": 3}],
        [{"op": "mean", "in": [1], "out": 2}, {"op": "multiply", "in": [2, 1], "out": 3}],
        [{"op": "resize", "in": [1], "out": 2, "size": [16, 16]}],
        [{"op": "resize", "in": [1], "out": 2, "size": [5, 11]}],
        [{"op": "hard_swish", "in": [1], "out": 2}, {"op": "sigmoid", "in": [2], "out": 3}],
        [{"op": "hard_swish", "in": [1], "out": 2}, {"op": "relu", "in": [2], "out": 3}],
        [
            *({"op": "add", "in": [k, k], "out": k + 1} for k in (1, 2, 3, 4)),  # some beyond 6
            {"op": "relu6", "in": [5], "out": 6},
        ],
    ],
    ids=lambda tail: "-".join(node["op"] for node in tail),
)
def test_other_steps(tail) -> None:
    """Pools, means, scaling, gates; with channels that fill no panel."""
    agree(*drawn(8, 21, 3, 1, tail))


def test_means_of_many_pixels_are_exact() -> None:
    """Of a picture of 128 x 128, to a few units in the last place: sums of rows are summed."""
    graph, tensors = drawn(128, 4, 3, 1, [{"op": "mean", "in": [1], "out": 2}])
    graph["outputs"]["y"] = 2
    pictures = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(2)) + 1
    found = Network(graph, tensors)(pictures)
    exact = found["x"].double().mean((1, 2), keepdim=True)
    torch.testing.assert_close(found["y"].double(), exact, rtol=3e-6, atol=1e-7)


def test_regions_and_their_samples() -> None:
    """A turned crop around landmarks that a convolution said, partly outside of the features."""
    whole = conv(2, 6, 30, 8, 8, pad=[0, 0, 0, 0])
    region = {
        "op": "region", "in": [2], "out": 3, "factor": 4.0, "level": [0, 1], "points": [0, 1, 2, 5, 9],
        "scale": 1.5, "size": 6,
    }  # fmt: skip
    tail = [whole, region, {"op": "sample", "in": [1, 3], "out": 4, "size": 6}]
    graph, tensors = drawn(8, 6, 3, 1, tail)
    graph["outputs"]["region"] = 3
    marks = torch.tensor([0.4, 0.5, 0, 1.4, 0.9, 0, 0.5, 1.5, 0, *[0.7] * 21])
    tensors["b30"] = marks + 0.01 * torch.arange(30)
    agree(graph, tensors)
    assert Network(graph, tensors)(torch.rand(2, 8, 8, 3))["region"].shape == (2, 2, 3)


def test_memory_is_shared_by_tensors_that_do_not_meet() -> None:
    """A chain of ten layers takes the memory of two and of what is wanted from its beginning."""
    graph, tensors = drawn(8, 16, 3, 1, [conv(k + 1, 16, 16, into=k) for k in range(1, 11)])
    packed = pack_convnet(8, 0, graph["nodes"], tensors, [11])
    assert packed.memory == 2 * 8 * 8 * 16
    kept = pack_convnet(8, 0, graph["nodes"], tensors, [1, 11])
    assert kept.memory == 3 * 8 * 8 * 16


def test_threads_change_nothing() -> None:
    """Pictures are shared among threads; each one's numbers stay the same to the bit."""
    graph, tensors = drawn(12, 20, 3, 1, [depthwise(2, 20, 3), conv(3, 20, 33, into=2)])
    packed = pack_convnet(12, 0, graph["nodes"], tensors, [3])
    pictures = torch.rand(7, 12, 12, 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = convnet(pictures, packed)[3]
        torch.set_num_threads(3)
        assert torch.equal(one, convnet(pictures, packed)[3])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("isa", ["portable", "avx2"])
def test_every_instruction_set_agrees(isa: str) -> None:
    """This file's tests of the steps, run by a process that is held to another instruction set."""
    if isa != "portable" and native.cpu_isa() == "portable":
        pytest.skip("this processor has no AVX2")
    wanted = ["test_other_steps", "test_a_sum_with_slopes", "test_regions", "test_padding"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", " or ".join(wanted)],
        env={**os.environ, "NLDF_CPU_ISA": isa}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-2000:]


def test_what_does_not_fit_is_refused() -> None:
    """Shapes that contradict each other raise when the network is packed."""
    for tail, says in (
        ([conv(2, 7, 8)], "don't fit"),
        ([conv(2, 8, 8, 9, 1, pad=[0, 0, 0, 0])], "larger than the picture"),
        ([{**depthwise(2, 8, 3), "groups": 4}], "don't fit"),
        ([depthwise(2, 8, 1)], "kernels"),
        ([{"op": "max_pool", "in": [1], "out": 2}, {"op": "add", "in": [1, 2], "out": 3}], "differ"),
        ([{"op": "multiply", "in": [1, 1], "out": 2}], "one number a channel"),
        ([{"op": "sample", "in": [1, 1], "out": 2, "size": 4}], "no region"),
        ([{"op": "max_pool", "in": [0], "out": 2}], "convolution first"),
        ([{"op": "prelu", "in": [1], "out": 2, "slope": "s7"}], "don't fit 8 channels"),
        ([{"op": "resize", "in": [1], "out": 2, "size": [0, 4]}], "at least one pixel"),
        ([conv(2, 8, 8, 3, 0)], "don't fit"),
    ):
        graph, tensors = drawn(8, 8, 3, 1, tail)
        with pytest.raises(ValueError, match=says):
            pack_convnet(8, 0, graph["nodes"], tensors, [2])
