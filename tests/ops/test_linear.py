"""ops.linear: a linear layer of 8-bit weights, with layer norm, GELU and residuals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops import PackedLinear


def layer(inputs: int, outputs: int, seed: int = 0) -> tuple[PackedLinear, Tensor]:
    """A random layer, and its weights [N, K] as integers."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randint(-127, 128, (outputs, inputs), generator=g, dtype=torch.int8)
    weight[0] = 127  # the largest sums that there can be
    scale = (0.5 + torch.rand(outputs, generator=g)) / (127 * inputs**0.5)
    return ops.pack_linear(weight, scale, torch.randn(outputs, generator=g)), weight


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(x: Tensor, weight: Tensor, packed: PackedLinear) -> Tensor:
    """The layer in float64 of the integers that float32 makes of x."""
    size = x.abs().amax(1, keepdim=True) / 127
    integers = (x / size).round().double()
    return (integers @ weight.double().t()) * size.double() * packed.scale.double() + packed.bias.double()


# Few rows, whole groups of every instruction set, and what is left over.
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 12, 13, 16, 17, 31, 33, 160])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 32), (512, 288), (2048, 64)])
def test_integers_are_summed_exactly(isa, rows, inputs, outputs):
    """Sums are exact: what integers give in float64, to the rounding of the numbers behind them."""
    packed, weight = layer(inputs, outputs)
    # Integers with one of 127 in each row, so that no rounding is a matter of chance.
    g = torch.Generator().manual_seed(2)
    x = torch.randint(-127, 128, (rows, inputs), generator=g).float()
    x[:, 3] = 127
    got = ops.linear(x, packed)
    torch.testing.assert_close(got.double(), exact(x, weight, packed), rtol=1e-6, atol=1e-5)
    largest = torch.full((1, inputs), -127.0)
    torch.testing.assert_close(
        ops.linear(largest, packed).double(), exact(largest, weight, packed), rtol=1e-6, atol=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(0, 40), inputs=st.integers(1, 5), outputs=st.integers(1, 12),
    norm=st.booleans(), gelu=st.booleans(),
)  # fmt: skip
def test_sizes_of_any_kind(rows, inputs, outputs, norm, gelu):
    """Rows, inputs and outputs of any number, with all that may stand about them, give the reference's."""
    inputs, outputs = 64 * inputs, 32 * outputs
    packed, _ = layer(inputs, outputs)
    x = draw(rows, inputs)
    more = {"norm": (draw(inputs, seed=3), draw(inputs, seed=4)) if norm else None, "gelu": gelu}
    if not gelu:
        more["residual"] = draw(rows, outputs, seed=5)
    got, want = (ops.linear(x, packed, **more, backend=b) for b in ("native", "reference"))
    # A number that lies between two integers may go to either: by one unit of a weight.
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0.05)
    assert rows == 0 or (got - want).abs().mean() < 2e-3


def test_agrees_with_its_reference(isa):
    """Layer norm, GELU and residuals are the reference's on every processor, but for rounding."""
    packed, _ = layer(512, 512)
    x, residual = 3 * draw(160, 512) + 1, draw(160, 512, seed=5)
    norm = (draw(512, seed=3), draw(512, seed=4))
    for more in ({}, {"norm": norm, "gelu": True}, {"norm": norm}, {"residual": residual}):
        got, want = (ops.linear(x, packed, **more, backend=b) for b in ("native", "reference"))
        assert (got - want).norm() < 1e-3 * want.norm()


def test_gelu_is_exact_to_rounding(isa):
    """GELU within 3e-7 of its argument, also far out, where it is 0 or the argument."""
    count = 4096
    packed = ops.pack_linear(torch.zeros(count, 64, dtype=torch.int8), torch.ones(count),
                             torch.linspace(-12, 12, count))  # fmt: skip
    got = ops.linear(torch.zeros(1, 64), packed, gelu=True)[0].double()
    x = packed.bias.double()
    want = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    assert ((got - want).abs() <= 4e-7 * x.abs() + 1e-12).all()


def test_rows_do_not_depend_on_each_other(isa):
    """A row gives the same bits alone, among others, in any place, and on any number of threads."""
    packed, _ = layer(128, 576)
    x, norm = draw(45, 128), (draw(128, seed=3), draw(128, seed=4))
    whole = ops.linear(x, packed, norm=norm, gelu=True)
    for first, last in ((0, 1), (7, 8), (11, 30), (44, 45), (1, 45)):
        part = ops.linear(x[first:last].clone(), packed, norm=norm, gelu=True)
        assert torch.equal(part, whole[first:last])
    former = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(ops.linear(x, packed, norm=norm, gelu=True), whole)
    finally:
        torch.set_num_threads(former)


def test_tiles_give_the_bits_of_vectors(monkeypatch):
    """Without an instruction set by name, where AMX may be used, every bit is that of AVX-512."""
    packed, _ = layer(512, 96)
    x, norm = draw(50, 512), (draw(512, seed=3), draw(512, seed=4))
    monkeypatch.delenv("NLDF_CPU_ISA", raising=False)
    if ops.backends()["cpu_isa"] != "avx512":
        pytest.skip("this processor or this build has no AVX-512")
    best = ops.linear(x, packed, norm=norm, gelu=True)
    monkeypatch.setenv("NLDF_CPU_ISA", "avx512")
    assert torch.equal(ops.linear(x, packed, norm=norm, gelu=True), best)


def test_silence_and_numbers_that_are_not_finite(isa):
    """A row of zeros gives the bias; one with infinity or NaN gives NaN, and its neighbours do not."""
    packed, _ = layer(64, 32)
    x = draw(5, 64)
    x[1], x[2, 5], x[3, 60] = 0, math.inf, math.nan
    got = ops.linear(x, packed)
    assert torch.equal(got[1], packed.bias)
    assert got[2:4].isnan().all() and got[[0, 1, 4]].isfinite().all()


def test_parts_are_the_outputs_of_the_whole():
    """A part of a packed layer gives the outputs of the whole layer, on the same memory."""
    packed, _ = layer(128, 192)
    x = draw(9, 128)
    part = packed.part(64, 160)
    assert part.weights.data_ptr() == packed.weights[4:].data_ptr()
    assert torch.equal(ops.linear(x, part), ops.linear(x, packed)[:, 64:160])
    with pytest.raises(ValueError, match=r"multiples of 32 .* got 16 and 64"):
        packed.part(16, 64)


def test_opcheck():
    """Schema, fake tensors and dispatch hold."""
    packed, _ = layer(64, 32)
    given = (packed.weights, packed.sums, packed.scale, packed.bias)
    torch.library.opcheck(torch.ops.nldf.linear.default, (draw(3, 64), *given, True))
    norm = (torch.rand(64), torch.rand(64))
    torch.library.opcheck(
        torch.ops.nldf.linear.default, (draw(3, 64), *given, False, *norm, torch.rand(3, 32))
    )


BAD = {
    "x": ({"x": torch.rand(5, 65)}, ValueError, r"x must have the shape \[R, 64\], got \[5, 65\]"),
    "dtype": ({"x": torch.rand(5, 64).double()}, TypeError, "x must be torch.float32, got torch.float64"),
    "norm": ({"norm": (torch.rand(64), torch.rand(3))}, ValueError, r"norm\[1\] must have the shape \[64\]"),
    "residual": ({"residual": torch.rand(4, 32)}, ValueError, r"residual must have the shape \[R=5, 32\]"),
    "both": ({"residual": torch.rand(5, 32), "gelu": True}, ValueError, "gelu or a residual, got both"),
    "gradient": ({"x": torch.rand(5, 64).requires_grad_()}, ValueError, "no gradient; use torch.no_grad"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises an error that names it and what came."""
    change, error, message = BAD[name]
    with pytest.raises(error, match="linear: .*" + message):
        ops.linear(**({"x": torch.rand(5, 64), "packed": layer(64, 32)[0]} | change))


@pytest.mark.parametrize(
    ("weight", "scale", "error", "message"),
    [
        (torch.zeros(32, 64), torch.ones(32), TypeError, "torch.int8, got torch.float32"),
        ([1], torch.ones(32), TypeError, "torch.int8, got list"),
        (torch.zeros(30, 64, dtype=torch.int8), torch.ones(30), ValueError, r"multiple of 32.*\[30, 64\]"),
        (torch.zeros(32, 72, dtype=torch.int8), torch.ones(32), ValueError, r"one of 64, got \[32, 72\]"),
        (torch.zeros(32, 64, dtype=torch.int8), torch.ones(64), ValueError, r"scale must be \[N=32\]"),
    ],
)
def test_layers_that_can_not_be_packed_are_refused(weight, scale, error, message):
    """Other types and sizes than the kernel reads are named."""
    with pytest.raises(error, match="pack_linear: .*" + message):
        ops.pack_linear(weight, scale)
