"""ops.resmlp against torch's layers: the paper's network, 88 layers of 256, and a small fast one.

`torch.mm` of 2048^3 in the same turns says what this machine gives to matrix products at the time.
"""

from __future__ import annotations

import pytest
import torch

from nldf_engine.nn.resmlp import ResMLP

SIZES = {"D88W256": (48, 256, 88), "D4W64": (32, 64, 4)}
OUT = 13


def network(name: str) -> ResMLP:
    """A network as training starts it, with biases that are not zero."""
    torch.manual_seed(0)
    in_dim, width, depth = SIZES[name]
    return ResMLP(in_dim, OUT, width, depth).eval()


def signal_to_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """Decibels."""
    return float(10 * torch.log10(want.square().mean() / (got - want).square().mean()))


@pytest.mark.parametrize(("name", "rays"), [("D88W256", 4096), ("D88W256", 1024), ("D4W64", 65536)])
def test_forward(race, name, rays):
    net, integer = network(name), network(name)
    integer.precision = "int16"
    x = torch.randn(1, rays, net.head.in_features)
    square = torch.randn(2048, 2048)
    with torch.no_grad():
        want = net(x, backend="reference")
        torch.testing.assert_close(net(x), want, rtol=1e-4, atol=1e-4)
        assert signal_to_error(integer(x), want) > 65
        flops = 2.0 * net.macs * rays
        contestants = {
            "fused fp32": (lambda: net(x), flops),
            "torch eager": (lambda: net(x, backend="reference"), flops),
            "fused int16": (lambda: integer(x), flops),
            "torch.mm 2048": (lambda: torch.mm(square, square), 2 * 2048.0**3),
        }
        race(
            {name: call for name, (call, _) in contestants.items()},
            device=torch.device("cpu"), units=dict.fromkeys(contestants, rays), unit="rays",
            work={name: work for name, (_, work) in contestants.items()}, work_unit="GFLOP/s",
            rounds=8 if name == "D88W256" else 20,
        )  # fmt: skip


@pytest.mark.parametrize(("name", "rays"), [("D88W256", 1024), ("D4W64", 16384)])
def test_forward_and_backward(race, name, rays):
    net = network(name)
    net.recompute = True
    x = torch.randn(1, rays, net.head.in_features)
    cotangent = torch.randn(1, rays, OUT)
    leaves = list(net.parameters())

    def run(backend: str) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(net(x, backend=backend), leaves, cotangent)

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))
    # The work of a pass that keeps its activations: three products a layer. The fused one does four.
    work = dict.fromkeys(("native", "reference"), 6.0 * net.macs * rays)
    race(
        {backend: lambda b=backend: run(b) for backend in work},
        device=torch.device("cpu"), units=dict.fromkeys(work, rays), unit="rays",
        work=work, work_unit="GFLOP/s", rounds=6,
    )  # fmt: skip
