"""ops.resmlp against its reference in float64, on every instruction set of this processor."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import resmlp_reference


def make(
    width: int, blocks: int, in_dim: int = 7, out_dim: int = 5, dtype: torch.dtype = torch.float32
) -> ops.ResmlpWeights:
    """Weights that keep activations near one, from a fixed seed."""
    g = torch.Generator().manual_seed(width + blocks)

    def draw(out: int, inputs: int, gain: float) -> Tensor:
        return (torch.randn(out, inputs, generator=g) * gain * inputs**-0.5).to(dtype)

    body = [draw(width, width, 1.4 if i % 2 == 0 else blocks**-0.5) for i in range(2 * blocks)]
    return ops.ResmlpWeights(
        head=draw(width, in_dim, 1.4),
        body=tuple(body),
        body_bias=tuple(draw(width, 1, 0.1)[:, 0] for _ in body),
        tail=draw(out_dim, width, 1.0),
        tail_bias=draw(out_dim, 1, 0.1)[:, 0],
    )


def double(weights: ops.ResmlpWeights) -> ops.ResmlpWeights:
    return ops.ResmlpWeights(
        weights.head.double(),
        tuple(w.double() for w in weights.body),
        tuple(b.double() for b in weights.body_bias),
        weights.tail.double(),
        weights.tail_bias.double(),
    )


def inputs(frames: int, rays: int, in_dim: int, width: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(rays)
    return torch.randn(frames, rays, in_dim, generator=g), 0.3 * torch.randn(frames, width, generator=g)


def reference(x: Tensor, bias: Tensor, w: ops.ResmlpWeights) -> Tensor:
    return resmlp_reference(x, bias, w.head, w.body, w.body_bias, w.tail, w.tail_bias)


SHAPES = [(16, 0), (16, 1), (48, 2), (64, 5), (16, 43), (256, 2)]


@pytest.mark.parametrize("rays", [0, 1, 5, 95, 96, 97, 255])
@pytest.mark.parametrize(("width", "blocks"), SHAPES)
def test_agrees_with_the_reference(isa, compare, width, blocks, rays):
    """Any number of rays, any width and depth: as accurate in float32 as torch's own layers."""
    w = make(width, blocks)
    x, bias = inputs(2, rays, 7, width)
    compare(
        [ops.resmlp(x, bias, w)], [reference(x, bias, w)], [reference(x.double(), bias.double(), double(w))]
    )


@pytest.mark.parametrize(("in_dim", "out_dim"), [(1, 1), (39, 13), (112, 16), (1008, 17), (3, 40)])
def test_any_input_and_output(isa, compare, in_dim, out_dim):
    """Inputs and outputs need be no multiple of anything."""
    w = make(32, 1, in_dim, out_dim)
    x, bias = inputs(1, 50, in_dim, 32)
    compare(
        [ops.resmlp(x, bias, w)], [reference(x, bias, w)], [reference(x.double(), bias.double(), double(w))]
    )


@settings(max_examples=40, deadline=None)
@given(
    rays=st.sampled_from([0, 1, 15, 16, 17, 95, 96, 97]),
    frames=st.integers(1, 3),
    in_dim=st.integers(1, 70),
    out_dim=st.integers(1, 40),
    width=st.integers(1, 80),
    blocks=st.integers(0, 3),
)
def test_sizes_of_any_kind(rays, frames, in_dim, out_dim, width, blocks):
    """Any number of frames, rays, inputs, outputs, widths and blocks gives the reference's float64 result."""
    w = double(make(width, blocks, in_dim, out_dim))
    x, bias = (t.double() for t in inputs(frames, rays, in_dim, width))
    torch.testing.assert_close(ops.resmlp(x, bias, w), reference(x, bias, w), rtol=1e-11, atol=1e-11)
    single = make(width, blocks, in_dim, out_dim)
    torch.testing.assert_close(
        ops.resmlp(x.float(), bias.float(), single).double(), reference(x, bias, w), rtol=1e-4, atol=1e-4
    )


@settings(max_examples=25, deadline=None)
@given(
    rays=st.sampled_from([0, 1, 17, 97]),
    in_dim=st.integers(1, 40),
    out_dim=st.integers(1, 20),
    width=st.integers(1, 50),
    blocks=st.integers(0, 2),
)
def test_gradients_of_any_size(rays, in_dim, out_dim, width, blocks):
    """Every size gives the gradients of the reference, of inputs, biases and all weights, in float64."""
    w = double(make(width, blocks, in_dim, out_dim))
    x, bias = (t.double().requires_grad_() for t in inputs(2, rays, in_dim, width))
    leaves = [t.requires_grad_() for t in (w.head, *w.body, *w.body_bias, w.tail, w.tail_bias)]
    v = torch.randn(2, rays, out_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = torch.autograd.grad(ops.resmlp(x, bias, w), [x, bias, *leaves], v)
    want = torch.autograd.grad(reference(x, bias, w), [x, bias, *leaves], v)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("width", "blocks"), [(16, 0), (20, 3), (64, 5), (256, 1)])
def test_gradients_agree_with_the_reference(isa, compare, width, blocks):
    """Every gradient, over several groups of rays and frames: in float32 as accurate as the reference's."""
    w = make(width, blocks)

    def run(op, dtype: torch.dtype) -> list[Tensor]:
        x, bias = (t.to(dtype) for t in inputs(3, 107, 7, width))
        own = w if dtype == torch.float32 else double(w)
        leaves = [t.requires_grad_() for t in (x, bias, own.head, *own.body, *own.body_bias)]
        leaves += [t.requires_grad_() for t in (own.tail, own.tail_bias)]
        g = torch.Generator().manual_seed(3)
        v = torch.randn(3, 107, 5, generator=g).to(dtype)
        return list(torch.autograd.grad(op(x, bias, own), leaves, v))

    exact = run(reference, torch.float64)
    for got, want in zip(run(ops.resmlp, torch.float64), exact, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
    compare(run(ops.resmlp, torch.float32), run(reference, torch.float32), exact)


def test_gradients_are_derivatives():
    """In float64 the kernel's gradients are its finite differences."""
    w = double(make(16, 1, 3, 2))
    x, bias = (t.double().requires_grad_() for t in inputs(2, 3, 3, 16))
    leaves = [t.requires_grad_() for t in (w.head, *w.body, *w.body_bias, w.tail, w.tail_bias)]

    def op(x: Tensor, bias: Tensor, head: Tensor, *rest: Tensor) -> Tensor:
        return ops.resmlp(x, bias, ops.ResmlpWeights(head, rest[:2], rest[2:4], rest[4], rest[5]))

    torch.autograd.gradcheck(op, (x, bias, *leaves))


@pytest.mark.parametrize("precision", ["fp32", "int16", "int8"])
def test_results_do_not_depend_on_threads(isa, precision):
    """One, two and three threads give the same bits; gradients too."""
    w = make(64, 2)
    x, bias = inputs(2, 150, 7, 64)
    before = torch.get_num_threads()
    seen = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            seen.append([ops.resmlp(x, bias, w, packed=ops.pack_resmlp(w, precision))])
            leaf = w.body[0].clone().requires_grad_()
            recorded = ops.ResmlpWeights(w.head, (leaf, *w.body[1:]), w.body_bias, w.tail, w.tail_bias)
            seen[-1] += torch.autograd.grad(ops.resmlp(x, bias, recorded).square().sum(), leaf)
    finally:
        torch.set_num_threads(before)
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


@pytest.mark.parametrize(("width", "blocks"), [(16, 1), (64, 5), (20, 2), (256, 43)])
def test_int16_is_65_db_close(isa, width, blocks):
    """The body in integers stays 65 dB above its rounding, with no calibration."""
    w = make(width, blocks)
    x, bias = inputs(2, 50, 7, width)
    want = reference(x.double(), bias.double(), double(w))
    got = ops.resmlp(x, bias, w, packed=ops.pack_resmlp(w, "int16"))
    assert float(10 * torch.log10(want.square().mean() / (got - want).square().mean())) > 65


@pytest.mark.parametrize(("width", "blocks"), [(16, 1), (64, 5), (20, 2), (256, 43)])
def test_int8_is_35_db_close(isa, width, blocks):
    """The body in 8 bits: as far above its rounding as a step in 255 of each ray's range is."""
    w = make(width, blocks)
    x, bias = inputs(2, 50, 7, width)
    want = reference(x.double(), bias.double(), double(w))
    got = ops.resmlp(x, bias, w, packed=ops.pack_resmlp(w, "int8"))
    assert float(10 * torch.log10(want.square().mean() / (got - want).square().mean())) > 35


def rounded(x: torch.Tensor, packed: ops.PackedResmlp, layer: int) -> torch.Tensor:
    """W x of rays x [N, W] as the 8-bit kernel has it, in float64 by torch."""
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    steps = ((x - low) * (255 / (high - low))).round().double()
    width = x.shape[1]
    integers = packed.body[layer].transpose(1, 2).reshape(width, width).double()
    made = (steps @ integers.t()) * ((high - low) / 255) + low * integers.sum(1)
    return made * packed.body_scale[layer]


def test_int8_is_its_arithmetic(isa):
    """Every instruction set has the sums of these very integers: what torch makes of the packed weights."""
    w = make(64, 1)
    x, bias = inputs(1, 50, 7, 64)
    packed = ops.pack_resmlp(w, "int8")
    assert packed.body.dtype == torch.int8 and packed.body.abs().max() <= 127
    first = torch.relu(x[0] @ w.head.t() + bias)
    hidden = torch.relu(rounded(first, packed, 0) + w.body_bias[0]).float()
    want = (first + rounded(hidden, packed, 1) + w.body_bias[1] + first) @ w.tail.t().double() + w.tail_bias
    got = ops.resmlp(x, bias, w, packed=packed)[0]
    # An input on the border of two steps may fall to either side.
    difference = (got - want).abs()
    assert difference.median() < 1e-6 and difference.max() < 0.05 * float(want.abs().max())


def test_int16_sums_cannot_overflow():
    """The bound holds for the worst case: equal weights and equal activations, of any size."""
    for gain in (1e-6, 1.0, 1e6):
        body = (torch.full((256, 256), gain), torch.full((256, 256), 1 / gain / 65536))
        w = ops.ResmlpWeights(
            torch.ones(256, 1), body, (torch.zeros(256),) * 2, torch.eye(256)[:2], torch.zeros(2)
        )
        x, bias = torch.ones(1, 20, 1), torch.zeros(1, 256)
        got = ops.resmlp(x, bias, w, packed=ops.pack_resmlp(w, "int16"))
        torch.testing.assert_close(got, reference(x, bias, w), rtol=1e-3, atol=1e-3)


def test_not_a_number_stays_one(isa):
    """NaN comes out as NaN and only in its own ray, as with torch's layers."""
    w = make(16, 2)
    x, bias = inputs(1, 40, 7, 16)
    x[0, 3, 2] = float("nan")
    out = ops.resmlp(x, bias, w)
    assert out[0, 3].isnan().all() and out[0, torch.arange(40) != 3].isfinite().all()


def test_opcheck():
    """Schema, fake tensors and dispatch of both operations hold."""
    w = make(16, 1)
    x, bias = inputs(2, 5, 7, 16)
    for precision in ("fp32", "int16", "int8"):
        torch.library.opcheck(
            torch.ops.nldf.resmlp.default, (x, bias, *ops.pack_resmlp(w, precision).arguments)
        )
    p = ops.pack_resmlp(w)
    flipped = (p.head[:, :0].reshape(0), p.body, p.tail.new_empty(1, 5, 16).zero_())
    torch.library.opcheck(
        torch.ops.nldf.resmlp_backward.default,
        (x, bias, p.head, p.body, p.body_bias, *flipped, torch.randn(2, 5, 5), False),
    )


BAD = {
    "x shape": ({"x": torch.ones(5, 7)}, ValueError, r"x must have the shape \[F, P, in\]"),
    "x dtype": ({"x": torch.ones(2, 5, 7).half()}, TypeError, r"x must be torch.float32"),
    "bias frames": ({"frame_bias": torch.ones(3, 16)}, ValueError, r"frame_bias must .* \[F=2, W\]"),
    "bias dtype": (
        {"frame_bias": torch.ones(2, 16).double()},
        TypeError,
        r"frame_bias must be torch.float32",
    ),
    "head": ({"weights": make(16, 1, 8)}, ValueError, r"head must have the shape \[W=16, in=7\]"),
    "width": ({"weights": make(32, 1)}, ValueError, r"head must have the shape"),
    "backend": ({"backend": "fast"}, ValueError, r"backend must be 'native' or 'reference'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises the right error, naming the argument and what came."""
    change, error, message = BAD[name]
    x, bias = inputs(2, 5, 7, 16)
    with pytest.raises(error, match="resmlp: " + message):
        ops.resmlp(**({"x": x, "frame_bias": bias, "weights": make(16, 1)} | change))


def test_packing_refuses_what_does_not_fit():
    """Odd bodies, wrong shapes and unknown precisions are named."""
    w = make(16, 1)
    with pytest.raises(ValueError, match="two weights a block"):
        ops.pack_resmlp(ops.ResmlpWeights(w.head, w.body[:1], w.body_bias[:1], w.tail, w.tail_bias))
    with pytest.raises(ValueError, match=r"body\[0\] must have the shape"):
        ops.pack_resmlp(ops.ResmlpWeights(w.head, (w.tail, w.tail), w.body_bias, w.tail, w.tail_bias))
    with pytest.raises(ValueError, match="precision must be 'fp32', 'int16' or 'int8', got 'int4'"):
        ops.pack_resmlp(w, "int4")
    for precision in ("int16", "int8"):
        with pytest.raises(TypeError, match=precision + r" must be made of torch\.float32"):
            ops.pack_resmlp(double(w), precision)


def test_unknown_instruction_set_is_refused(monkeypatch):
    """A misspelt NLDF_CPU_ISA is an error, not a silent choice."""
    monkeypatch.setenv("NLDF_CPU_ISA", "avx1024")
    with pytest.raises(ValueError, match="NLDF_CPU_ISA is 'avx1024'"):
        ops.resmlp(*inputs(1, 2, 7, 16), make(16, 0))
