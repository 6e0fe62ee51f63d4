"""Packed weights: kept as long as no parameter changes, and no longer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from nldf_engine.nn.fused import PackedWeights
from nldf_engine.nn.resmlp import ResMLP


class Packer:
    """Counts how often it packs one parameter."""

    def __init__(self) -> None:
        self.weight = torch.ones(3)
        self.count = 0
        self.kept: PackedWeights[Tensor] = PackedWeights()

    def get(self, *settings: str, keep: bool = True) -> Tensor:
        return self.kept.get([self.weight], self.pack, *settings, keep=keep)

    def pack(self) -> Tensor:
        self.count += 1
        return 2 * self.weight


def test_nothing_is_packed_twice_without_a_change() -> None:
    """The same parameters and settings give the same packed weights; a change in place packs anew."""
    packer = Packer()
    assert packer.get() is packer.get() and packer.count == 1
    packer.weight.add_(1)
    assert packer.get().tolist() == [4, 4, 4] and packer.count == 2


def test_another_setting_or_tensor_packs_anew() -> None:
    """A setting, another tensor and another dtype each pack anew; only the last is kept."""
    packer = Packer()
    packer.get("fp32")
    packer.get("int16")
    packer.weight = packer.weight.clone()
    packer.get("int16")
    packer.weight = packer.weight.double()
    assert packer.get("int16").dtype == torch.float64
    assert packer.count == 4


def test_addresses_of_kept_parameters_are_not_given_to_others() -> None:
    """New parameters are never taken for those that were freed, though sizes and counters are the same."""
    packer = Packer()
    for value in range(50):
        packer.weight = torch.full((3,), float(value))
        assert packer.get().tolist() == [2 * value] * 3


@pytest.mark.parametrize("way", ["forget", "keep"])
def test_forget_reaches_changes_that_no_counter_shows(way: str) -> None:
    """Writes through `.data`, as fused optimisers make them, are seen after `forget` or with keep=False."""
    packer = Packer()
    packer.get()
    packer.weight.data.add_(1)
    if way == "forget":
        packer.kept.forget()
        assert packer.get().tolist() == [4, 4, 4]
    else:
        assert packer.get(keep=False).tolist() == [4, 4, 4]
        assert packer.get().tolist() == [4, 4, 4] and packer.count == 3


def test_tensors_without_a_counter_are_never_kept() -> None:
    """Parameters made in inference mode change unseen: they are packed at each call."""
    packer = Packer()
    with torch.inference_mode():
        packer.weight = torch.ones(3)
    packer.get()
    packer.get()
    assert packer.count == 2


def test_a_copied_module_packs_its_own_weights() -> None:
    """A deep copy of an evaluated module has nothing kept, and changes of it don't reach the original."""
    torch.manual_seed(0)
    net, x = ResMLP(8, 3, width=16, depth=4).eval(), torch.randn(1, 5, 8)
    with torch.no_grad():
        want = net(x)
        assert net.packed() is net.packed()
        other = copy.deepcopy(net)
        other.tail.bias.add_(1)
        torch.testing.assert_close(other(x), want + 1)
        assert torch.equal(net(x), want)
