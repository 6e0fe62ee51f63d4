"""ops.attend_slots: slot attention over a point's features in several references."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import slots_reference

# Points, references, hidden, width, encoded, slots, rounds: panels and vectors that are full, or are not.
SIZES = [
    (1, 1, 1, 1, 1, 1, 1), (47, 1, 16, 12, 27, 2, 3), (49, 4, 12, 16, 33, 2, 2), (100, 3, 16, 32, 39, 2, 2),
    (31, 4, 32, 128, 63, 2, 2), (50, 2, 3, 20, 4, 5, 1), (97, 6, 17, 33, 16, 1, 2),
]  # fmt: skip


def weights(hidden: int, width: int, points: int, slots: int, rounds: int) -> ops.SlotsWeights:
    g = torch.Generator().manual_seed(0)

    def layer(outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
        scale = 1.4 * inputs**-0.5
        return scale * torch.randn(outputs, inputs, generator=g), 0.3 * torch.randn(outputs, generator=g)

    return ops.SlotsWeights(
        near=layer(hidden, 2), point=layer(width, points), mix=layer(width, 2 + hidden)[0],
        query=layer(width, width), score=layer(1, width), gates=layer(3 * width, width),
        own=layer(3 * width, width), first=layer(width, width), second=layer(width, width),
        start=torch.randn(slots, width, generator=g), rounds=rounds,
    )  # fmt: skip


def inputs(count: int, references: int, hidden: int, width: int, points: int) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    shapes = ((count, references, hidden + width), (count, references, 2), (count, points))
    return tuple(torch.randn(*shape, generator=g) for shape in shapes)


def double(plain: ops.SlotsWeights) -> ops.SlotsWeights:
    def of(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(of(each) for each in value)
        return value.double() if isinstance(value, Tensor) else value

    return ops.SlotsWeights(**{one.name: of(getattr(plain, one.name)) for one in fields(plain)})


@pytest.mark.parametrize("sizes", SIZES)
def test_agrees_with_float64(isa, compare, sizes):
    """On every instruction set it errs at most twice as much as the reference in float32."""
    count, references, *rest = sizes
    plain, given = weights(*rest), inputs(count, references, *rest[:3])
    compare(
        [ops.attend_slots(*given, ops.pack_slots(plain))], [slots_reference(*given, plain)],
        [slots_reference(*(x.double() for x in given), double(plain))],
    )  # fmt: skip


def test_no_points(isa):
    """Of no point come no slots."""
    plain = weights(3, 5, 4, 2, 2)
    assert ops.attend_slots(*inputs(0, 3, 3, 5, 4), ops.pack_slots(plain)).shape == (0, 14)


def test_points_do_not_depend_on_each_other(isa):
    """A point gives the same bits alone, among others, and on any number of threads."""
    packed, given = ops.pack_slots(weights(12, 20, 9, 2, 2)), inputs(211, 3, 12, 20, 9)
    whole = ops.attend_slots(*given, packed)
    for first, last in ((0, 1), (47, 49), (210, 211), (1, 211)):
        part = ops.attend_slots(*(x[first:last].clone() for x in given), packed)
        assert torch.equal(part, whole[first:last])
    former = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(ops.attend_slots(*given, packed), whole)
    finally:
        torch.set_num_threads(former)


def test_numbers_that_are_not_finite_stay_with_their_point(isa):
    """A point with NaN gives NaN, its neighbours do not; references that are all alike are no exception."""
    packed, given = ops.pack_slots(weights(4, 16, 5, 2, 2)), inputs(9, 3, 4, 16, 5)
    given[0][2, 1, 7], given[2][5, 0] = math.nan, math.nan
    given[0][7] = given[0][7, :1]
    slots = ops.attend_slots(*given, packed)[:, :32]
    assert slots[[2, 5]].isnan().all() and slots[[0, 1, 3, 4, 6, 7, 8]].isfinite().all()


def test_opcheck():
    """Schema, fake tensors and dispatch hold."""
    packed = ops.pack_slots(weights(3, 5, 4, 2, 2))
    given = (*inputs(7, 3, 3, 5, 4), packed.weights, packed.biases, packed.score, packed.start, (3, 5, 2))
    torch.library.opcheck(torch.ops.nldf.slots.default, given)


GOOD = (7, 3, 3, 5, 4)
BAD = {
    "shares": ({"shares": torch.rand(7, 3, 9)}, ValueError, r"shares must have the shape \[P, R, 8\], got"),
    "places": ({"places": torch.rand(7, 2, 2)}, ValueError, r"places must have the shape \[P=7, R=3, 2\]"),
    "encoded": ({"encoded": torch.rand(6, 4)}, ValueError, r"encoded must have the shape \[P=7, 4\]"),
    "dtype": ({"shares": torch.rand(7, 3, 8).double()}, TypeError, "must be torch.float32, got"),
    "none": ({"shares": torch.rand(7, 0, 8)}, ValueError, "R must be at least 1, got 0"),
    "gradient": (
        {"shares": torch.rand(7, 3, 8).requires_grad_()}, ValueError, "no gradient; use torch.no_grad"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises an error that names it and what came."""
    change, error, message = BAD[name]
    given = dict(zip(("shares", "places", "encoded"), inputs(*GOOD), strict=True))
    with pytest.raises(error, match="attend_slots: .*" + message):
        ops.attend_slots(**(given | change), packed=ops.pack_slots(weights(3, 5, 4, 2, 2)))


def test_weights_that_do_not_fit_are_refused():
    """Sizes of layers that contradict each other, and no rounds, are named."""
    plain = weights(3, 5, 4, 2, 2)
    with pytest.raises(ValueError, match=r"SlotsWeights: mix must have the shape \[5, 5\], got \[5, 4\]"):
        replace(plain, mix=torch.rand(5, 4))
    with pytest.raises(ValueError, match="SlotsWeights: rounds must be at least 1, got 0"):
        replace(plain, rounds=0)
