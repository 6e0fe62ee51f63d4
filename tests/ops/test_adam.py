"""ops.step_adam against its reference and torch's Adam; what it passes over."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import adam_reference

NUMBERS = (0.02, 0.3, 0.9, 0.99, 1e-15)


def case(entries: int, features: int, dtype: torch.dtype = torch.float32, share: float = 0.3) -> list[Tensor]:
    """Table, gradient (a share of the entries have one), moments."""
    g = torch.Generator().manual_seed(entries + features)
    gradient = torch.randn(entries, features, generator=g) * (torch.rand(entries, 1, generator=g) < share)
    moments = torch.randn(entries, features, generator=g), torch.rand(entries, features, generator=g)
    return [x.to(dtype) for x in (torch.randn(entries, features, generator=g), gradient, *moments)]


def stepped(inputs: list[Tensor], backend: str = "native", steps: int = 7) -> list[Tensor]:
    """Table and moments behind a step."""
    table, gradient, first, second = (x.clone() for x in inputs)
    ops.step_adam(table, gradient, first, second, steps, 0.01, backend=backend)
    return [table, first, second]


@pytest.mark.parametrize("features", [1, 2, 3, 4, 8])
def test_agrees_with_the_reference(device, compare, features):
    """Table and moments are as accurate as the reference's, on every device."""
    inputs = case(5000, features)
    compare(
        stepped([x.to(device) for x in inputs]),
        stepped(inputs, "reference"),
        stepped([x.double() for x in inputs], "reference"),
    )


@settings(max_examples=40, deadline=None)
@given(
    entries=st.sampled_from([0, 1, 2, 4095, 4096, 4097]),
    features=st.integers(1, 9),
    share=st.sampled_from([0.0, 0.1, 1.0]),
    steps=st.integers(1, 10**6),
)
def test_sizes_of_any_kind(entries, features, share, steps):
    """Every number of entries, features and steps gives the reference's float64 result."""
    inputs = case(entries, features, torch.float64, share)
    wanted = stepped(inputs, "reference", steps)
    for got, want in zip(stepped(inputs, steps=steps), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-13)


def test_steps_as_torch_does_where_everything_is_met():
    """Ten steps with a gradient everywhere are those of torch.optim.Adam."""
    start = case(50, 4, torch.float64)[0]
    ours, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    theirs = start.clone().requires_grad_()
    adam = torch.optim.Adam([theirs], 0.03, (0.8, 0.95), 1e-8)
    g = torch.Generator().manual_seed(0)
    for steps in range(1, 11):
        theirs.grad = torch.randn(50, 4, generator=g, dtype=torch.float64)
        adam.step()
        ops.step_adam(ours, theirs.grad, first, second, steps, 0.03, betas=(0.8, 0.95), epsilon=1e-8)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)


def test_entries_without_a_gradient_are_passed_over():
    """Table and moments of an entry that no point met keep every bit; one met feature moves its entry."""
    inputs = case(200, 4)
    inputs[1][:100] = 0
    inputs[1][7, 2] = 1e-30
    inputs[1][8] = -0.0
    moved = stepped(inputs)
    met = torch.arange(100) == 7
    for got, before in zip(moved, (inputs[0], *inputs[2:]), strict=True):
        assert torch.equal(got[:100][~met], before[:100][~met])
    assert (moved[1][7] != inputs[2][7]).all()


@pytest.mark.parametrize("steps", [1, 2, 13, 50, 1000])
def test_the_first_meeting_moves_by_about_the_rate(steps):
    """An entry's first gradient, large or small, moves it by half the rate to all of it."""
    table, zeros = torch.zeros(1, 2), torch.zeros(1, 2)
    ops.step_adam(table, torch.tensor([[5.0, -1e-6]]), zeros, zeros.clone(), steps, 0.01)
    share = 0.1 / (1 - 0.9**steps) / (0.01 / (1 - 0.99**steps)) ** 0.5
    assert 0.46 < share <= 1.0001
    torch.testing.assert_close(table, 0.01 * share * torch.tensor([[-1.0, 1.0]]), rtol=1e-4, atol=0)


@pytest.mark.parametrize("beta", [0.999, 1 - 1e-7, 1 - 1e-9])
def test_betas_near_one(beta):
    """What float32 leaves of 1 - beta doesn't matter: the step is float64's."""
    inputs = case(40, 4, share=1.0)
    moved = []
    for dtype in (torch.float32, torch.float64):
        table, gradient, _, _ = (x.to(dtype, copy=True) for x in inputs)
        first, second = torch.zeros_like(table), torch.zeros_like(table)
        ops.step_adam(table, gradient, first, second, 1, 0.01, betas=(0.9, beta))
        moved.append(table.double())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-5, atol=1e-6)


def test_not_a_number_is_not_passed_over():
    """A gradient that is no number shows in the table, as with torch's Adam."""
    inputs = case(20, 2, share=0.0)
    inputs[1][3, 0] = float("nan")
    table = stepped(inputs)[0]
    assert table[3, 0].isnan() and table.isnan().sum() == 1


def test_threads_change_nothing():
    """One, two and three threads give the same bits."""
    inputs, before, seen = case(20_000, 4), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            seen.append(stepped(inputs))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))


def test_rates_are_read_where_they_are(device, compare):
    """A step by rates on the device is the step by their numbers, whatever numbers come with it."""
    inputs = case(5000, 4)
    rates = ops.adam_rates(torch.tensor([3.0, 7.0]), torch.tensor(0.01))
    for backend in ("native", "reference"):
        table, gradient, first, second = (x.to(device, copy=True) for x in inputs)
        ops.step_adam(table, gradient, first, second, rates=rates[1].to(device), backend=backend)
        single, double = (
            stepped([x.to(t) for x in inputs], "reference") for t in (torch.float32, torch.float64)
        )
        compare([table, first, second], single, double)


def test_autograd_is_told_of_the_change():
    """A graph that needs the table as it was refuses to run backward with another one."""
    table = torch.rand(4, 2, requires_grad=True)
    loss = table.square().sum()
    ops.step_adam(table, torch.ones(4, 2), torch.zeros(4, 2), torch.zeros(4, 2), 1, 0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_opcheck():
    """Schema, fake tensors and dispatch hold, what is changed included."""
    torch.library.opcheck(torch.ops.nldf.adam.default, (*case(9, 4), None, *NUMBERS))


def test_reference_changes_in_place():
    """The reference too changes its arguments, and returns nothing."""
    inputs = case(9, 4, share=1.0)
    before = [x.clone() for x in inputs]
    assert adam_reference(*inputs, *NUMBERS) is None
    assert not torch.equal(inputs[0], before[0]) and torch.equal(inputs[1], before[1])


BAD = {
    "shape": ({"second": torch.ones(3, 2)}, ValueError, r"second must have the shape \[N=4, F=2\]"),
    "dtype": ({"first": torch.ones(4, 2).double()}, TypeError, "first must be torch.float32 as table is"),
    "strides": ({"v_table": torch.ones(2, 4).t()}, ValueError, "v_table must be contiguous"),
    "steps": ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
    "rate": ({"rate": -1.0}, ValueError, "rate must be not negative, got -1"),
    "rate nan": ({"rate": float("nan")}, ValueError, "rate must be finite"),
    "betas": ({"betas": (0.9, 1.0)}, ValueError, r"betas\[1\] must be in \[0, 1\), got 1"),
    "rates": ({"rates": torch.ones(3)}, ValueError, r"rates must have the shape \[2\]"),
    "epsilon": ({"epsilon": -1e-8}, ValueError, "epsilon must be not negative"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Every argument that doesn't fit is named, with what was expected and what came."""
    change, error, message = BAD[name]
    good = {
        "table": torch.ones(4, 2), "v_table": torch.ones(4, 2), "first": torch.ones(4, 2),
        "second": torch.ones(4, 2), "steps": 1, "rate": 0.1,
    }  # fmt: skip
    with pytest.raises(error, match=f"step_adam: {message}"):
        ops.step_adam(**good | change)
