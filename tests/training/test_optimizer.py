"""training.optimizer: torch's Adam for networks, passing over what a batch didn't meet of tables."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from nldf_engine.nn.grid import GridEncoding, grid_parameters
from nldf_engine.ops import GridSpec
from nldf_engine.training.optimizer import TableAdam


class Field(nn.Module):
    """A grid and a layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.grid = GridEncoding(GridSpec(2, 2, (4, 32)))
        self.layer = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.grid(x))


def made(on_device: bool = False) -> tuple[Field, TableAdam]:
    field = Field()
    groups = [{"params": list(field.layer.parameters())}, grid_parameters(field.grid, 0.05)]
    return field, TableAdam(groups, 0.01, on_device=on_device)


def trained(field: Field, optimizer: torch.optim.Optimizer, steps: int, points: int = 16) -> None:
    for _ in range(steps):
        x = torch.rand(points, 2)
        optimizer.zero_grad(set_to_none=True)
        (field(x)[:, 0] - x.sum(1)).square().mean().backward()
        optimizer.step()


def test_networks_step_as_torch_has_them_and_tables_where_they_are_met():
    """The layer's parameters are those of torch's Adam; entries that no batch met keep every bit."""
    field, optimizer = made()
    other = copy.deepcopy(field)
    plain = torch.optim.Adam(other.layer.parameters(), 0.01, (0.9, 0.99))
    before = field.grid.table.detach().clone()
    x = torch.full((1, 2), 0.3)
    for model, stepping in ((field, optimizer), (other, plain)):
        (model(x)[:, 0] - 1).square().mean().backward()
        stepping.step()
    for got, want in zip(field.layer.parameters(), other.layer.parameters(), strict=True):
        torch.testing.assert_close(got, want)
    met = (field.grid.table != before).any(1)
    assert 0 < met.sum() <= 8 and torch.equal(field.grid.table[~met], before[~met])


def test_a_field_is_learned():
    """Where a batch meets a tenth of a table, the sum of two coordinates is learned as well as by Adam."""
    errors = []
    for dense in (False, True):
        field, optimizer = made()
        if dense:
            optimizer.param_groups[1]["sparse"] = False
        torch.manual_seed(1)
        trained(field, optimizer, 300)
        x = torch.rand(500, 2)
        errors.append(float((field(x)[:, 0] - x.sum(1)).square().mean().detach()))
    assert errors[0] < 2 * errors[1] + 1e-4, errors


def test_a_state_goes_on_where_it_was():
    """State dictionaries hold torch's names; a run that stops and loads them ends with the same bits."""
    whole, optimizer = made()
    torch.manual_seed(2)
    trained(whole, optimizer, 6)
    first, before = made()
    second, after = made()
    torch.manual_seed(2)
    trained(first, before, 3)
    state = before.state_dict()
    assert {name for entry in state["state"].values() for name in entry} == {"step", "exp_avg", "exp_avg_sq"}
    second.load_state_dict(first.state_dict())
    after.load_state_dict(state)
    assert all(after.state[table]["step"].device.type == "cpu" for table in (second.grid.table,))
    trained(second, after, 3)
    for got, want in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(got, want)


def test_numbers_beside_the_parameters_make_the_same_steps():
    """Rates and counts as tensors give the steps of numbers; states go over from either to the other, and
    tensors that a graph may read stay the same ones."""
    found = []
    for first, second in ((False, False), (True, True), (True, False), (False, True)):
        torch.manual_seed(3)
        field, optimizer = made(first)
        trained(field, optimizer, 5)
        state = optimizer.state_dict()
        groups = [{"params": list(field.layer.parameters())}, grid_parameters(field.grid, 0.05)]
        optimizer = TableAdam(groups, 0.01, on_device=second)
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(
            {"state": state["state"], "param_groups": optimizer.state_dict()["param_groups"]}
        )
        assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, rates, strict=True))
        assert all(isinstance(rate, Tensor) == second for rate in rates)
        for group in optimizer.param_groups:
            optimizer.set_rate(group, 0.5 * float(group["lr"]))
        trained(field, optimizer, 5)
        assert float(optimizer.state[field.grid.table]["step"]) == 10
        found.append([p.detach() for p in field.parameters()])
    for other in found[1:]:
        for got, want in zip(other, found[0], strict=True):
            torch.testing.assert_close(got, want, rtol=2e-6, atol=2e-7)


def test_capturable_is_said_while_recording_alone():
    """torch asks for it in a recording, and warns of it elsewhere."""
    _, optimizer = made(on_device=True)
    with optimizer.recording():
        assert all(group["capturable"] for group in optimizer.param_groups)
    assert not any(group["capturable"] for group in optimizer.param_groups)


def test_closures_and_absent_gradients():
    """A closure is called with gradients on; parameters without a gradient stay."""
    field, optimizer = made()
    before = field.grid.table.detach().clone()

    def closure() -> float:
        loss = field.layer(torch.ones(1, 4)).sum()
        loss.backward()
        return float(loss.detach())

    assert isinstance(optimizer.step(closure), float)
    assert torch.equal(field.grid.table, before)


def test_a_state_of_torchs_adam_is_gone_on_with():
    """torch's own state loads; its groups' settings don't make tables dense, and steps are on the CPU."""
    field, optimizer = made()
    other = copy.deepcopy(field)
    groups = [{"params": list(other.layer.parameters())}, grid_parameters(other.grid, 0.05)]
    plain = torch.optim.Adam(groups, 0.01, (0.9, 0.99), fused=True)
    trained(other, plain, 3)
    field.load_state_dict(other.state_dict())
    optimizer.load_state_dict(plain.state_dict())
    state = optimizer.state[field.grid.table]
    assert int(state["step"]) == 3 and state["step"].device.type == "cpu"
    assert torch.equal(state["exp_avg"], plain.state[other.grid.table]["exp_avg"])
    before = field.grid.table.detach().clone()
    field(torch.full((1, 2), 0.3)).sum().backward()
    optimizer.step()
    assert 0 < (field.grid.table != before).any(1).sum() <= 8


def test_hooks_are_called_once_whatever_else_there_is():
    """Hooks before and behind a step are called once, with the gradients in place."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # torch then watches its own step as well
    field, optimizer = made()
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append(field.grid.table.grad is not None))
    trained(field, optimizer, 1)
    assert seen == ["before", True]


def test_what_a_sparse_group_does_not_know_is_refused():
    """Weight decay, AMSGrad and the like of a table are errors, at once."""
    _, optimizer = made()
    for name, value in {"weight_decay": 0.5, "amsgrad": True, "maximize": True}.items():
        table = nn.Parameter(torch.zeros(2, 2))
        with pytest.raises(ValueError, match=f"a sparse group knows no {name}"):
            optimizer.add_param_group({"params": [table], "sparse": True, name: value})
    table = nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="a sparse group knows no a tensor as lr"):
        TableAdam([{"params": [table], "sparse": True, "lr": torch.tensor(0.1)}], 0.1)
    optimizer.add_param_group({"params": [table], "sparse": True})
    assert optimizer.param_groups[-1]["fused"] is False


def test_scaled_gradients_are_unscaled_and_overflows_left_out():
    """A GradScaler's factor doesn't reach the tables, and a step with an infinite gradient is none."""
    field, optimizer = made()
    other, plain = made()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x = torch.rand(16, 2)
    scaler.scale((field(x) ** 2).mean()).backward()
    scaler.step(optimizer)
    (other(x) ** 2).mean().backward()
    plain.step()
    torch.testing.assert_close(field.grid.table, other.grid.table, rtol=1e-4, atol=1e-6)
    scaler.update()
    before = field.grid.table.detach().clone()
    optimizer.zero_grad()
    scaler.scale((field(x) ** 2).mean()).backward()
    field.grid.table.grad[0, 0] = float("inf")
    scaler.step(optimizer)
    assert torch.equal(field.grid.table, before)
