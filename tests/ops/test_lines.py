"""ops.shade_lines: the light field over planes with gradients, of lines of any number to a frame."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops import GridSpec, PlanesNetwork
from nldf_engine.ops.reference import lines_reference

SHAPES = {  # depths, features, ambient, width, layers of the warp net and of the second network
    "usual": ((-0.06, 0.03), 4, 4, 64, 3, 4),
    "three planes": ((-0.05, 0.0, 0.04), 4, 3, 48, 2, 3),
    "three features": ((0.1, 0.2), 3, 0, 128, 2, 3),
    "eight features": ((0.0,), 8, 5, 40, 3, 4),
    "least": ((0.1,), 1, 0, 1, 2, 2),
}
STARTS = (0, 1, 1, 48, 145)


def network(shape: str | tuple, dtype: torch.dtype = torch.float32) -> PlanesNetwork:
    """Random parameters whose warp and opacity vary over the picture; of a named shape, or of one."""
    depths, features, ambient, width, warp_count, count = SHAPES[shape] if isinstance(shape, str) else shape
    g = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=g, dtype=torch.float64).to(dtype)

    def layers(inputs: int, hidden: int, outputs: int) -> tuple[tuple[Tensor, Tensor | None], ...]:
        sizes = [inputs, *[width] * hidden, outputs]
        return tuple(
            (draw(b, a) / a**0.5, None if i == 0 else draw(b) * 0.1)
            for i, (a, b) in enumerate(pairwise(sizes))
        )

    warp_spec, spec = GridSpec(2, features, (4, 9)), GridSpec(2, features, (5, 16, 40), log2_table=10)
    return PlanesNetwork(
        torch.tensor([-0.2, -0.25, 0.22, 0.2], dtype=dtype), depths,
        warp_spec, draw(warp_spec.entries, features), spec,
        tuple(draw(spec.entries, features) for _ in depths),
        layers(warp_spec.out_features + 2, warp_count - 1, 2 * len(depths) + ambient),
        layers(len(depths) * spec.out_features + ambient, count - 1, 3 * len(depths) + 1),
        0.05, 3.0,
    )  # fmt: skip


def case(net: PlanesNetwork, starts: tuple[int, ...]) -> list[Tensor]:
    """Lines, some beside the box, and the frames' biases."""
    g = torch.Generator().manual_seed(1)
    dtype, width, frames = net.box.dtype, net.layers[0][0].shape[0], len(starts) - 1
    lines = torch.rand(starts[-1], 4, generator=g) * 1.2 - 0.1
    biases = [torch.randn(frames, width, generator=g) for _ in range(2)]
    return [x.to(dtype) for x in (lines, *biases)]


def leaves_of(net: PlanesNetwork) -> tuple[PlanesNetwork, list[Tensor]]:
    """The network with parameters that ask for gradients, and these."""
    leaves: list[Tensor] = []

    def leaf(x: Tensor) -> Tensor:
        leaves.append(x.clone().requires_grad_())
        return leaves[-1]

    def own(layers: tuple) -> tuple:
        return tuple((leaf(w), None if b is None else leaf(b)) for w, b in layers)

    changed = replace(
        net, warp_table=leaf(net.warp_table), tables=tuple(leaf(t) for t in net.tables),
        warp_layers=own(net.warp_layers), layers=own(net.layers),
    )  # fmt: skip
    return changed, leaves


def run(op, net: PlanesNetwork, inputs: list[Tensor], starts: tuple[int, ...]) -> list[Tensor]:
    """Segments and opacity, then the gradients of lines, biases and all parameters."""
    own, parameters = leaves_of(net)
    given = [x.clone().requires_grad_() for x in inputs]
    out = op(given[0], starts, *given[1:], own)
    g = torch.Generator().manual_seed(2)
    cotangent = [torch.randn(o.shape, generator=g).to(o) for o in out]
    return [*(o.detach() for o in out), *torch.autograd.grad(out, [*given, *parameters], cotangent)]


ANY_SHAPE = st.tuples(
    st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=4).map(tuple), st.integers(1, 8), st.integers(0, 6),
    st.integers(1, 130), st.integers(2, 3), st.integers(2, 4),
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(shape=ANY_SHAPE, counts=st.lists(st.sampled_from([0, 1, 16, 33, 48]), min_size=1, max_size=3))
def test_sizes_of_any_kind(shape, counts):
    """Every shape of network and number of lines a frame gives the reference's colours and gradients."""
    net, starts = network(shape, torch.float64), (0, *accumulate(counts))
    inputs = case(net, starts)
    want = run(lines_reference, net, inputs, starts)
    for got, expected in zip(run(ops.shade_lines, net, inputs, starts), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_its_reference(isa, shape):
    """Colours and all gradients are as accurate as the reference's in the mean square, on every processor."""
    net, double = network(shape), network(shape, torch.float64)
    inputs = case(net, STARTS)
    got = run(ops.shade_lines, net, inputs, STARTS)
    single = run(lines_reference, net, inputs, STARTS)
    exact = run(lines_reference, double, [x.double() for x in inputs], STARTS)
    for i, (op, reference, want) in enumerate(zip(got, single, exact, strict=True)):
        # One ReLU that rounding turns is the largest error of either, so the largest would be chance.
        size = want.abs().max().clamp_min(1)
        error, allowed = ((x.double() - want).square().mean().sqrt() / size for x in (op, reference))
        assert error <= 2 * allowed + 1e-6, f"output {i}: error {error:.3e}, the reference's {allowed:.3e}"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("starts", [(0, 0), (0, 1), (0, 7, 50), STARTS])
def test_float64_is_exact(shape, starts):
    """In float64 colours and all gradients are the reference's to rounding, for any number of lines."""
    net = network(shape, torch.float64)
    inputs = case(net, starts)
    want = run(lines_reference, net, inputs, starts)
    for got, expected in zip(run(ops.shade_lines, net, inputs, starts), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-11)


def test_gradients_are_derivatives():
    """The gradients of lines and biases are the kernel's finite differences in float64."""
    net = network("least", torch.float64)
    inputs = [x.requires_grad_() for x in case(net, (0, 3, 5))]
    torch.autograd.gradcheck(lambda x, *biases: ops.shade_lines(x, (0, 3, 5), *biases, net), inputs)


def test_threads_change_no_more_than_rounding():
    """Colours and the lines' gradients are the same with three threads; shared gradients but for rounding."""
    net = network("usual")
    inputs = case(net, STARTS)
    former, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3, 3):
            torch.set_num_threads(threads)
            results.append(run(ops.shade_lines, net, inputs, STARTS))
    finally:
        torch.set_num_threads(former)
    for i, (alone, three, again) in enumerate(zip(*results, strict=True)):
        assert torch.equal(three, again)
        assert torch.equal(alone, three) if i < 3 else torch.allclose(alone, three, rtol=1e-4, atol=1e-4)


def test_opcheck():
    """Schema, fake tensors and dispatch of both operations hold."""
    net = network("usual")
    lines, *biases = case(net, (0, 3, 5))
    packed = ops.pack_planes(net)
    for keep in (False, True):
        torch.library.opcheck(
            torch.ops.nldf.lines.default, (lines, (0, 3, 5), keep, *biases, *packed.arguments)
        )
    kept = torch.ops.nldf.lines(lines, (0, 3, 5), True, *biases, *packed.arguments)[2]
    transposed = torch.rand(len(packed.weights) + 4096)
    v_out = torch.rand(5, 2, 3), torch.rand(5)
    torch.library.opcheck(
        torch.ops.nldf.lines_backward.default,
        (lines, (0, 3, 5), *biases, transposed, *v_out, kept, 2, *packed.arguments),
    )


BAD = {
    "lines": ({"lines": torch.rand(5, 3)}, r"lines must have the shape \[N, 4\], got \[5, 3\]"),
    "starts": ({"starts": (0, 4)}, r"starts must be 2 numbers that rise from 0 to N=5, got \[0, 4\]"),
    "falling": ({"starts": (0, 6, 5)}, r"starts must be 2 numbers that rise from 0 to N=5, got \[0, 6, 5\]"),
    "bias": ({"bias": torch.rand(2, 64)}, r"bias must have the shape \[F=1, W=64\], got \[2, 64\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises an error that names it and what came."""
    change, message = BAD[name]
    net = network("usual")
    lines, warp_bias, bias = case(net, (0, 5))
    given = {"lines": lines, "starts": (0, 5), "warp_bias": warp_bias, "bias": bias} | change
    with pytest.raises(ValueError, match="shade_lines: " + message):
        ops.shade_lines(**given, network=net)
