"""Modules over planes: what a subclass owes, and when its packed network is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nldf_engine.nn.planes import PlanesModule
from nldf_engine.ops import GridSpec, PlanesNetwork


class Picture(PlanesModule):
    """The least network: one plane, one level, two layers each."""

    backend = "native"

    def __init__(self) -> None:
        super().__init__()
        self.spec = GridSpec(2, 4, (2,))
        self.table = nn.Parameter(torch.rand(4, 4))
        self.weights = nn.ParameterList(
            [torch.rand(8, 6), torch.rand(2, 8), torch.rand(8, 4), torch.rand(4, 8)]
        )
        self.biases = nn.ParameterList([torch.rand(2), torch.rand(4)])
        self.register_buffer("box", torch.tensor([-1.0, -1.0, 1.0, 1.0]))

    def planes_network(self) -> PlanesNetwork:
        w, b = self.weights, self.biases
        return PlanesNetwork(
            self.box, (0.0,), self.spec, self.table, self.spec, (self.table,),
            ((w[0], None), (w[1], b[0])), ((w[2], None), (w[3], b[1])), 0.05, 3.0,
        )  # fmt: skip


def test_a_subclass_owes_its_network() -> None:
    """A module that doesn't say which network it is can't be made."""

    class Nothing(PlanesModule):
        backend = "native"

    with pytest.raises(TypeError, match="planes_network"):
        Nothing()
    assert isinstance(Picture(), PlanesModule)


def test_the_packed_network_is_kept_in_eval_mode_without_gradients() -> None:
    """It is kept while nothing can change, and packed anew after training, in it, and after a change."""
    picture = Picture().eval()
    assert picture.packed() is not picture.packed()  # gradients are recorded
    with torch.no_grad():
        kept = picture.packed()
        assert picture.packed() is kept
        picture.weights[0].add_(1)
        assert picture.packed() is not kept
        kept = picture.packed()
        picture.train()
        assert picture.packed() is not picture.packed()
        picture.eval()
        assert picture.packed() is not kept


def test_the_fused_operation_stands_in_without_gradients_alone() -> None:
    """On the CPU in float32 it does, but not where a gradient is recorded, nor by the reference backend."""
    picture = Picture().eval()
    assert not picture.fusable()
    with torch.no_grad():
        assert picture.fusable() and picture.fusable(torch.rand(2))
        assert not picture.fusable(torch.rand(2, dtype=torch.float64))
        picture.backend = "reference"
        assert not picture.fusable()
