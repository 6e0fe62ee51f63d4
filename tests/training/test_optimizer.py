"""training.optimizer: torch's Adam for networks, passing over what a batch didn't meet of tables."""

from __future__ import annotations

import copy

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


def made() -> tuple[Field, TableAdam]:
    field = Field()
    groups = [{"params": list(field.layer.parameters())}, grid_parameters(field.grid, 0.05)]
    return field, TableAdam(groups, 0.01)


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
    assert field.grid.table.grad is None


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
