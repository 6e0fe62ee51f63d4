"""ops.attend: attention over the rows of a piece."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(rows: Tensor, heads: int) -> Tensor:
    """Softmax of products, written out in float64."""
    parts = [part.unflatten(2, (heads, -1)).transpose(1, 2) for part in rows.double().chunk(3, 2)]
    query, key, value = parts
    weights = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
    return (weights @ value).transpose(1, 2).flatten(2)


# Lengths about the vectors of every instruction set, and that of the front-end's pieces.
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 15, 16, 17, 33, 162])
@pytest.mark.parametrize(("width", "heads"), [(16, 1), (96, 2), (256, 4)])
def test_rows_are_those_of_float64(isa, length, width, heads):
    """What a row sees is float64's to the rounding of float32, whatever the lengths."""
    rows = draw(2, length, 3 * width)
    torch.testing.assert_close(ops.attend(rows, heads).double(), exact(rows, heads), rtol=1e-5, atol=3e-6)
    # Scores of hundreds, most of whose weights are nothing.
    sharp = 6 * rows
    torch.testing.assert_close(ops.attend(sharp, heads).double(), exact(sharp, heads), rtol=1e-4, atol=2e-3)
    assert ops.attend(1000 * rows, heads).isfinite().all()


@settings(max_examples=30, deadline=None)
@given(
    pieces=st.integers(0, 3), length=st.integers(1, 40), seeing=st.integers(0, 20), heads=st.integers(1, 3),
    size=st.integers(1, 5),
)  # fmt: skip
def test_sizes_of_any_kind(pieces, length, seeing, heads, size):
    """Pieces of any size, seen by rows of any number, give the reference's."""
    width = 16 * heads * size
    rows, query = draw(pieces, length, 2 * width), draw(pieces, seeing, width, seed=2)
    got, want = (ops.attend(rows, heads, query, backend=b) for b in ("native", "reference"))
    assert got.shape == query.shape
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    all_three = torch.cat([draw(pieces, length, width, seed=3), rows], 2)
    got, want = (ops.attend(all_three, heads, backend=b) for b in ("native", "reference"))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_pieces_and_rows_do_not_depend_on_each_other(isa):
    """A piece gives the same bits alone, a row the same as among those of its piece, on any threads."""
    rows, former = draw(3, 37, 3 * 64), torch.get_num_threads()
    whole = ops.attend(rows, 2)
    assert torch.equal(whole[1:2], ops.attend(rows[1:2].clone(), 2))
    query, rest = rows.split([64, 128], 2)
    for first, last in ((0, 1), (7, 9), (20, 37)):
        part = ops.attend(rest.contiguous(), 2, query[:, first:last].contiguous())
        assert torch.equal(part, whole[:, first:last])
    try:
        torch.set_num_threads(3)
        assert torch.equal(ops.attend(rows, 2), whole)
    finally:
        torch.set_num_threads(former)


def test_numbers_that_are_not_finite(isa):
    """NaN in a query spoils its row, NaN in a key all rows of that head and piece, and nothing else."""
    rows = draw(2, 20, 3 * 32)
    rows[0, 5, 3] = math.nan  # a query of the first head
    got = ops.attend(rows, 2)
    assert got[0, 5, :16].isnan().all() and got.isnan().sum() == 16
    rows[1, 7, 32 + 20] = math.nan  # a key of the second
    got = ops.attend(rows, 2)
    assert got[1, :, 16:].isnan().all() and got.isnan().sum() == 16 + 20 * 16


def test_opcheck():
    """Schema, fake tensors and dispatch hold."""
    torch.library.opcheck(torch.ops.nldf.attention.default, (draw(2, 5, 48), 1))
    torch.library.opcheck(torch.ops.nldf.attention.default, (draw(2, 5, 64), 2, draw(2, 3, 32)))
    turned = draw(2, 32, 3).transpose(1, 2)
    made = torch.ops.nldf.attention(draw(2, 5, 64), 2, turned)
    assert torch.equal(made, ops.attend(draw(2, 5, 64), 2, turned.contiguous()))


BAD = {
    "rows": ({"rows": torch.rand(5, 96)}, ValueError, r"rows must have the shape \[N, L, W\], got \[5, 96\]"),
    "dtype": ({"rows": torch.rand(1, 5, 96).double()}, TypeError, "rows must be torch.float32"),
    "parts": ({"rows": torch.rand(1, 5, 97)}, ValueError, r"rows \[N, L, 3 D\] .*got \[1, 5, 97\]"),
    "heads": ({"heads": 3}, ValueError, "D a multiple of 16 x 3 heads"),
    "no head": ({"heads": 0}, ValueError, "heads must be at least 1, got 0"),
    "nothing seen": ({"rows": torch.rand(1, 0, 96)}, ValueError, "L of at least 1"),
    "query": ({"query": torch.rand(1, 2, 32)}, ValueError, r"query must have the shape \[N=1, n, 48\]"),
    "gradient": ({"rows": torch.rand(1, 5, 96).requires_grad_()}, ValueError, "use torch.no_grad"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises an error that names it and what came."""
    change, error, message = BAD[name]
    with pytest.raises(error, match="attend: .*" + message):
        ops.attend(**({"rows": torch.rand(1, 5, 96), "heads": 1} | change))
