"""ops.compact_rays and ops.composite_rays against their references and bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import compact_over_reference, compact_reference

TILE = 2048
SIZES = (0, 1, 2, 31, 32, 33, 255, 256, 257, TILE - 1, TILE, TILE + 1, 3 * TILE, 5 * TILE + 77)


def layers(mask: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Colours and opacity of the chosen rays, and a layer under the frame."""
    g = torch.Generator().manual_seed(1)
    chosen, rays = int(mask.sum()), len(mask)
    opacity = torch.rand(chosen, generator=g)
    colors = torch.rand(chosen, 3, generator=g) * opacity[:, None]
    return tuple(x.to(dtype) for x in (colors, opacity, torch.rand(rays, 3), torch.rand(rays)))


@pytest.mark.parametrize("rays", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_order_is_the_references(device, rays, share):
    """Order and count are the reference's exactly, for bool and for uint8 of any values."""
    mask = torch.rand(rays) < share
    want = compact_reference(mask)
    for given_mask in (mask, mask.to(torch.uint8) * 7):
        order, count = ops.compact_rays(given_mask.to(device))
        assert order.dtype == count.dtype == torch.int32
        assert torch.equal(order.cpu(), want[0]) and torch.equal(count.cpu(), want[1])


@settings(max_examples=60, deadline=None)
@given(mask=st.lists(st.booleans(), max_size=70))
def test_order_is_a_permutation(mask):
    """Every ray stands in the order once; the first `count` are the chosen ones, increasing."""
    order, count = ops.compact_rays(torch.tensor(mask, dtype=torch.bool))
    chosen = [i for i, value in enumerate(mask) if value]
    assert sorted(order.tolist()) == list(range(len(mask)))
    assert order[: int(count)].tolist() == chosen


def test_threads_do_not_matter():
    """One thread and several give the same order."""
    mask = torch.rand(40 * TILE + 5) > 0.4
    threads = torch.get_num_threads()
    try:
        got = []
        for number in (1, 3):
            torch.set_num_threads(number)
            got.append(ops.compact_rays(mask))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*got, strict=True))


@pytest.mark.parametrize("under", [False, True])
def test_frame_agrees_with_the_reference(device, compare, under):
    """Colour and alpha of the frame are as accurate as the reference's, over nothing and over a layer."""
    mask = torch.rand(5000) > 0.4
    order, _ = compact_reference(mask)

    def run(op, dtype: torch.dtype, where: str | torch.device = "cpu") -> list[Tensor]:
        colors, opacity, *behind = (x.to(where) for x in layers(mask, dtype))
        behind = tuple(behind) if under else None
        if op is compact_over_reference:
            return list(op(colors, opacity, order, *(behind or ())))
        return list(op(colors, opacity, order.to(where), behind))

    torch.manual_seed(3)
    got = run(ops.composite_rays, torch.float32, device)
    torch.manual_seed(3)
    single = run(compact_over_reference, torch.float32)
    torch.manual_seed(3)
    compare(got, single, run(compact_over_reference, torch.float64))


@settings(max_examples=40, deadline=None)
@given(rays=st.sampled_from([0, 1, 2, 33, 300]), share=st.sampled_from([0.0, 0.5, 1.0]), under=st.booleans())
def test_frame_of_any_size(rays, share, under):
    """Rays that were not chosen show what is under them, the chosen ones their own colour before it."""
    mask = torch.rand(rays) < share
    colors, opacity, *behind = layers(mask, torch.float64)
    order, _ = ops.compact_rays(mask)
    color, alpha = ops.composite_rays(colors, opacity, order, tuple(behind) if under else None)
    below = behind if under else [torch.zeros_like(x) for x in behind]
    assert torch.equal(color[~mask], below[0][~mask]) and torch.equal(alpha[~mask], below[1][~mask])
    torch.testing.assert_close(color[mask], colors + (1 - opacity[:, None]) * below[0][mask])
    torch.testing.assert_close(alpha[mask], opacity + (1 - opacity) * below[1][mask])


def test_wrong_order_writes_nowhere_else():
    """An order that names rays outside of the frame leaves memory alone."""
    order = torch.tensor([-5, 1 << 30, 1], dtype=torch.int32)
    color, alpha = ops.composite_rays(torch.ones(3, 3), torch.ones(3), order)
    assert color[1].tolist() == [1, 1, 1] and float(alpha[1]) == 1


def test_opcheck():
    """Schema, fake tensors and dispatch of both operations hold."""
    mask = (torch.rand(50) > 0.5).to(torch.uint8)
    torch.library.opcheck(torch.ops.nldf.compact.default, (mask,))
    colors, opacity, *behind = layers(mask)
    order = compact_reference(mask)[0]
    for under in (behind, (None, None)):
        torch.library.opcheck(torch.ops.nldf.compact_over.default, (colors, opacity, order, *under))


def test_reference_backend_is_the_reference():
    """backend="reference" runs the references themselves."""
    mask = torch.rand(50) > 0.5
    assert torch.equal(ops.compact_rays(mask, backend="reference")[0], compact_reference(mask)[0])
    colors, opacity, *behind = layers(mask)
    order = compact_reference(mask)[0]
    got = ops.composite_rays(colors, opacity, order, tuple(behind), backend="reference")
    for op, reference in zip(got, compact_over_reference(colors, opacity, order, *behind), strict=True):
        assert torch.equal(op, reference)


BAD_MASK = {
    "no tensor": ([True], TypeError, r"mask must be a torch.Tensor, got list"),
    "float": (torch.ones(4), TypeError, r"mask must be torch.bool or torch.uint8, got torch.float32"),
    "shape": (torch.ones(4, 1).bool(), ValueError, r"mask must have the shape \[R\], got \[4, 1\]"),
    "layout": (torch.ones(8).bool()[::2], ValueError, r"mask must be contiguous"),
}


@pytest.mark.parametrize("name", BAD_MASK)
def test_bad_mask_is_named(name):
    """Each wrong mask raises the right error, saying what came."""
    mask, error, message = BAD_MASK[name]
    with pytest.raises(error, match=r"compact_rays: " + message):
        ops.compact_rays(mask)


BAD = {
    "colors shape": ({"colors": torch.ones(3, 4)}, ValueError, r"colors must .* \[N, 3\], got \[3, 4\]"),
    "colors int": ({"colors": torch.ones(3, 3).int()}, TypeError, r"colors must be torch.float32"),
    "opacity shape": ({"opacity": torch.ones(4)}, ValueError, r"opacity must .* \[N=3\], got \[4\]"),
    "order dtype": ({"order": torch.arange(5)}, TypeError, r"order must be torch.int32, got torch.int64"),
    "too many": ({"order": torch.arange(2).int()}, ValueError, r"colors must have at most R=2 rays"),
    "under shape": (
        {"under": (torch.ones(4, 3), torch.ones(5))},
        ValueError,
        r"under\[0\] must .* \[R=5, 3\], got \[4, 3\]",
    ),
    "gradient": ({"colors": torch.ones(3, 3, requires_grad=True)}, ValueError, r"there is no gradient"),
    "backend": ({"backend": "x"}, ValueError, r"backend must be 'native' or 'reference', got 'x'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises the right error, naming the operation, the argument and what came."""
    change, error, message = BAD[name]
    good = {"colors": torch.ones(3, 3), "opacity": torch.ones(3), "order": torch.arange(5).int()}
    with pytest.raises(error, match=r"composite_rays: " + message):
        ops.composite_rays(**(good | change))
