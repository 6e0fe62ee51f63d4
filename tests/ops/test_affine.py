"""ops.affine: a float32 layer over rows that may overlap."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops import PackedAffine


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(inputs: int, outputs: int) -> PackedAffine:
    return ops.pack_affine(draw(outputs, inputs, seed=2) / inputs**0.5, draw(outputs, seed=3))


def exact(x: Tensor, packed: PackedAffine, step: int) -> Tensor:
    """The layer's outputs in float64."""
    rows = x.double().flatten().unfold(0, packed.plain.shape[1], step)
    return F.linear(rows, packed.plain.double(), packed.bias.double())


# Few rows, whole groups of every instruction set, and what is left over; outputs that fill no panel.
@pytest.mark.parametrize("rows", [1, 3, 8, 9, 65])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (201, 80), (240, 112), (64, 6), (1536, 33)])
def test_products_are_those_of_float64(isa, rows, inputs, outputs):
    """Outputs are float64's to the rounding of float32, also of rows that overlap."""
    packed = layer(inputs, outputs)
    for step in {inputs, max(1, inputs // 3)}:
        x = draw(1, (rows - 1) * step + inputs)
        got = ops.affine(x, packed, step=step)
        assert got.shape == (rows, outputs)
        torch.testing.assert_close(got.double(), exact(x, packed, step), rtol=2e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(0, 40), width=st.integers(1, 20), places=st.integers(1, 4), stride=st.integers(1, 3),
    outputs=st.integers(1, 70), gelu=st.booleans(),
)  # fmt: skip
def test_sizes_of_any_kind(rows, width, places, stride, outputs, gelu):
    """Convolutions of any size give the reference's rows; too few numbers give none."""
    packed, x = layer(places * width, outputs), draw(rows, width)
    how = {"step": stride * width, "gelu": gelu}
    got, want = (ops.affine(x, packed, **how, backend=b) for b in ("native", "reference"))
    assert len(got) == max(0, (rows - places) // stride + 1)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_it_is_a_convolution():
    """With overlapping rows it is torch's convolution over places."""
    x, weight, bias = draw(17, 12), draw(20, 12, 3), draw(20, seed=4)
    packed = ops.pack_affine(weight.transpose(1, 2).flatten(1).contiguous(), bias)
    want = F.gelu(F.conv1d(x.t()[None], weight, bias, stride=2))[0].t()
    torch.testing.assert_close(ops.affine(x, packed, step=24, gelu=True), want, rtol=1e-5, atol=1e-5)


def test_rows_do_not_depend_on_each_other(isa):
    """A row gives the same bits alone, among others, in any place, and on any number of threads."""
    packed, x = layer(96, 150), draw(145, 32)
    whole = ops.affine(x, packed, step=64, gelu=True)
    assert len(whole) == 72
    for first, last in ((0, 1), (7, 8), (11, 30), (63, 66), (71, 72), (1, 72)):
        part = ops.affine(x[2 * first : 2 * last + 1].clone(), packed, step=64, gelu=True)
        assert torch.equal(part, whole[first:last])
    former = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert torch.equal(ops.affine(x, packed, step=64, gelu=True), whole)
    finally:
        torch.set_num_threads(former)


def test_numbers_that_are_not_finite_stay_in_their_row(isa):
    """A row with NaN or infinity does not give finite numbers, and its neighbours do."""
    packed, x = layer(16, 20), draw(5, 16)
    x[1, 3], x[3, 0] = math.nan, math.inf
    for gelu in (False, True):
        got = ops.affine(x, packed, gelu=gelu)
        assert not got[1].isfinite().any() and got[[0, 2, 4]].isfinite().all()
    assert not ops.affine(x, packed)[3].isfinite().any()


def test_opcheck():
    """Schema, fake tensors and dispatch hold."""
    packed = layer(12, 20)
    for rows in (0, 1, 7):
        torch.library.opcheck(
            torch.ops.nldf.affine.default, (draw(rows, 4), packed.weights, packed.bias, 8, True)
        )


BAD = {
    "x": ({"x": torch.rand(5)}, ValueError, r"x must have the shape \[T, C\], got \[5\]"),
    "dtype": ({"x": torch.rand(5, 4).double()}, TypeError, "x must be torch.float32, got torch.float64"),
    "layout": ({"x": torch.rand(4, 5).t()}, ValueError, "x must be contiguous"),
    "step": ({"step": 0}, ValueError, "step must be at least 1, got 0"),
    "gradient": ({"x": torch.rand(5, 4).requires_grad_()}, ValueError, "no gradient; use torch.no_grad"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises an error that names it and what came."""
    change, error, message = BAD[name]
    with pytest.raises(error, match="affine: .*" + message):
        ops.affine(**({"x": torch.rand(5, 4), "packed": layer(12, 20)} | change))


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (torch.rand(4), None, r"weight must have the shape \[N, K\]"),
        (torch.rand(0, 4), None, "inputs and outputs"),
        (torch.rand(4, 5), torch.rand(5), r"bias must have the shape \[N=4\], got \[5\]"),
    ],
)
def test_wrong_weights_are_refused(weight, bias, message):
    """What can't be packed is named."""
    with pytest.raises(ValueError, match="pack_affine: .*" + message):
        ops.pack_affine(weight, bias)
