"""ops.shade_lines: the light field over planes with gradients, of those lines of a batch that are inside."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops import GridSpec, PlanesNetwork
from nldf_engine.ops.lines import _numbers, _parameters
from nldf_engine.ops.reference import lines_reference

SHAPES = {  # depths, features, ambient, width, layers of the warp net and of the second network
    "usual": ((-0.06, 0.03), 4, 4, 64, 3, 4),
    "three planes": ((-0.05, 0.0, 0.04), 4, 3, 48, 2, 3),
    "three features": ((0.1, 0.2), 3, 0, 128, 2, 3),
    "eight features": ((0.0,), 8, 5, 40, 3, 4),
    "least": ((0.1,), 1, 0, 1, 2, 2),
}
FRAME = 3
FRAMES, RAYS = 4, 61


def network(shape: str | tuple, dtype: torch.dtype = torch.float32) -> PlanesNetwork:
    """Random parameters whose warp and opacity vary over the picture; of a named shape, or of one."""
    depths, features, ambient, width, warp_count, count = SHAPES[shape] if isinstance(shape, str) else shape
    g = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=g, dtype=torch.float64).to(dtype)

    def layers(inputs: int, hidden: int, outputs: int) -> tuple[tuple[Tensor, Tensor], ...]:
        sizes = [inputs, *[width] * hidden, outputs]
        return tuple(
            (draw(b, a + FRAME * (i == 0)) / a**0.5, draw(b) * 0.1)
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


def case(net: PlanesNetwork, frames: int = FRAMES, rays: int = RAYS, share: float = 0.7) -> list[Tensor]:
    """Lines, some beside the box, which of them are inside, and the frames' inputs."""
    g = torch.Generator().manual_seed(1)
    lines = torch.rand(frames, rays, 4, generator=g) * 1.2 - 0.1
    inside = torch.rand(frames, rays, generator=g) < share
    return [lines.to(net.box.dtype), inside, torch.randn(frames, FRAME, generator=g).to(net.box.dtype)]


def leaves_of(net: PlanesNetwork) -> tuple[PlanesNetwork, list[Tensor]]:
    """The network with parameters that ask for gradients, and these."""
    leaves: list[Tensor] = []

    def leaf(x: Tensor) -> Tensor:
        leaves.append(x.clone().requires_grad_())
        return leaves[-1]

    def own(layers: tuple) -> tuple:
        return tuple((leaf(w), leaf(b)) for w, b in layers)

    changed = replace(
        net, warp_table=leaf(net.warp_table), tables=tuple(leaf(t) for t in net.tables),
        warp_layers=own(net.warp_layers), layers=own(net.layers),
    )  # fmt: skip
    return changed, leaves


def run(op, net: PlanesNetwork, lines: Tensor, inside: Tensor | None, inputs: Tensor) -> list[Tensor]:
    """Segments and opacity, then the gradients of lines, inputs and all parameters."""
    own, parameters = leaves_of(net)
    given = [x.clone().requires_grad_() for x in (lines, inputs)]
    out = op(given[0], inside, given[1], own)
    g = torch.Generator().manual_seed(2)
    cotangent = [torch.randn(o.shape, generator=g).to(o) for o in out]
    return [*(o.detach() for o in out), *torch.autograd.grad(out, [*given, *parameters], cotangent)]


ANY_SHAPE = st.tuples(
    st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=4).map(tuple), st.integers(1, 8), st.integers(0, 6),
    st.integers(1, 130), st.integers(2, 3), st.integers(2, 4),
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(shape=ANY_SHAPE, rays=st.sampled_from([0, 1, 16, 33, 48]), share=st.sampled_from([0.0, 0.3, 1.0]))
def test_sizes_of_any_kind(shape, rays, share):
    """Every shape of network and number of lines a frame gives the reference's colours and gradients."""
    net = network(shape, torch.float64)
    inputs = case(net, 2, rays, share)
    want = run(lines_reference, net, *inputs)
    for got, expected in zip(run(ops.shade_lines, net, *inputs), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_its_reference(isa, shape):
    """Colours and all gradients are as accurate as the reference's in the mean square, on every processor."""
    net, double = network(shape), network(shape, torch.float64)
    lines, inside, inputs = case(net)
    got = run(ops.shade_lines, net, lines, inside, inputs)
    single = run(lines_reference, net, lines, inside, inputs)
    exact = run(lines_reference, double, lines.double(), inside, inputs.double())
    for i, (op, reference, want) in enumerate(zip(got, single, exact, strict=True)):
        # One ReLU that rounding turns is the largest error of either, so the largest would be chance.
        size = want.abs().max().clamp_min(1)
        error, allowed = ((x.double() - want).square().mean().sqrt() / size for x in (op, reference))
        assert error <= 2 * allowed + 1e-6, f"output {i}: error {error:.3e}, the reference's {allowed:.3e}"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rays", [0, 1, 7, 50])
def test_float64_is_exact(shape, rays):
    """In float64 colours and all gradients are the reference's to rounding, for any number of lines."""
    net = network(shape, torch.float64)
    lines, _, inputs = case(net, 3, rays)
    want = run(lines_reference, net, lines, None, inputs)
    for got, expected in zip(run(ops.shade_lines, net, lines, None, inputs), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-11)


def test_lines_that_are_not_inside_are_not_looked_at():
    """What no ray is does no harm where it is not evaluated: infinite lines give no colour."""
    net = network("usual")
    lines, inside, inputs = case(net)
    want = run(ops.shade_lines, net, lines, inside, inputs)
    lines[~inside] = torch.inf
    for got, expected in zip(run(ops.shade_lines, net, lines, inside, inputs), want, strict=True):
        assert torch.equal(got, expected)
    segments, opacity, v_lines = want[:3]
    assert not any(x[~inside].any() for x in (segments, opacity, v_lines)) and bool(segments[inside].any())


def test_gradients_are_derivatives():
    """The gradients of lines and inputs are the kernel's finite differences in float64."""
    net = network("least", torch.float64)
    lines, inside, inputs = case(net, 2, 3)
    given = lines.requires_grad_(), inputs.requires_grad_()
    torch.autograd.gradcheck(lambda x, numbers: ops.shade_lines(x, inside, numbers, net), given)


def test_threads_change_no_more_than_rounding():
    """Colours and the lines' gradients are the same with three threads; shared gradients but for rounding."""
    net = network("usual")
    inputs = case(net)
    former, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3, 3):
            torch.set_num_threads(threads)
            results.append(run(ops.shade_lines, net, *inputs))
    finally:
        torch.set_num_threads(former)
    for i, (alone, three, again) in enumerate(zip(*results, strict=True)):
        assert torch.equal(three, again)
        assert torch.equal(alone, three) if i < 3 else torch.allclose(alone, three, rtol=1e-4, atol=1e-4)


def test_opcheck():
    """Schema, fake tensors and dispatch of both operations hold."""
    net = network("usual")
    lines, inside, inputs = case(net, 2, 5)
    described = _parameters(net), *_numbers(net)
    opcheck, chosen = torch.library.opcheck, torch.ops.nldf.lines
    opcheck(chosen.default, (lines, inside, False, inputs, *described))
    kept = chosen(lines, inside, True, inputs, *described)[2]
    v_out = torch.rand(2, 5, 2, 3), torch.rand(2, 5)
    # Of what is kept and of the gaps between gradients nothing is written: their shapes alone are compared.
    for test in ("test_schema", "test_faketensor"):
        arguments = (lines, None, inputs, *v_out, kept, *described)
        opcheck(torch.ops.nldf.lines_backward.default, arguments, test_utils=test)


BAD = {
    "lines": ({"lines": torch.rand(1, 5, 3)}, r"lines must have the shape \[F, P, 4\], got \[1, 5, 3\]"),
    "inputs": ({"inputs": torch.rand(2, 3)}, r"inputs must have the shape \[F=1, C\], got \[2, 3\]"),
    "another frame": (
        {"inputs": torch.rand(1, 2)},
        r"warp_layers\[0\] weight must have the shape \[W, 12\], got \[64, 13\]",
    ),
    "inside": ({"inside": torch.ones(1, 4)}, r"inside must be bool of the shape \[1, 5\], got torch.float32"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises an error that names it and what came."""
    change, message = BAD[name]
    net = network("usual")
    given = dict(zip(("lines", "inside", "inputs"), case(net, 1, 5), strict=True)) | change
    with pytest.raises(ValueError, match="shade_lines: " + message):
        ops.shade_lines(**given, network=net)
