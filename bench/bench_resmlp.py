"""ops.resmlp against torch's layers: the paper's network, 88 layers of 256, and a small fast one.

torch.compile takes a minute for 88 layers, so only `--pace full` (`nldf bench --full`) races it.
"""

from __future__ import annotations

import pytest
import torch

from nldf_engine.nn.resmlp import ResMLP

SIZES = {"D88W256": (48, 256, 88), "D4W64": (32, 64, 4)}
OUT = 13
CPU = torch.device("cpu")
thorough = pytest.mark.thorough


def network(name: str) -> ResMLP:
    """A network as training starts it, with biases that are not zero."""
    torch.manual_seed(0)
    in_dim, width, depth = SIZES[name]
    return ResMLP(in_dim, OUT, width, depth).eval()


def signal_to_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """Decibels."""
    return float(10 * torch.log10(want.square().mean() / (got - want).square().mean()))


@pytest.mark.parametrize(
    ("name", "rays"),
    [
        pytest.param("D88W256", 65536, marks=pytest.mark.full),  # a frame of 256 x 256
        pytest.param("D88W256", 4096, marks=thorough),
        ("D88W256", 1024),
        ("D4W64", 65536),
    ],
)
def test_forward(race, pace, name, rays):
    net, integer, bytes_ = (network(name) for _ in range(3))
    integer.precision, bytes_.precision = "int16", "int8"
    x = torch.randn(1, rays, net.head.in_features)
    absent = {"torch.compile": "not requested: it takes about a minute to compile, see --full"}
    with torch.no_grad():
        want = net(x, backend="reference")
        torch.testing.assert_close(net(x), want, rtol=1e-4, atol=1e-4)
        assert signal_to_error(integer(x), want) > 65
        assert signal_to_error(bytes_(x), want) > 35
        contestants = {
            "fused fp32": lambda: net(x),
            "torch eager": lambda: net(x, backend="reference"),
            "fused int16": lambda: integer(x),
            "fused int8": lambda: bytes_(x),
        }
        if pace.mode == "full":
            compiled = torch.compile(lambda rays: net(rays, backend="reference"))
            try:
                torch.testing.assert_close(compiled(x), want, rtol=1e-4, atol=1e-4)
                contestants["torch.compile"] = lambda: compiled(x)
                absent = {}
            except torch._dynamo.exc.BackendCompilerFailed as error:
                absent["torch.compile"] = f"it fails here: {str(error).splitlines()[0][:120]}"
        race(
            contestants, device=CPU, units=rays, unit="rays", flops=2.0 * net.macs,
            absent=absent if name == "D88W256" else None,
        )  # fmt: skip


@pytest.mark.parametrize(("name", "rays"), [("D88W256", 1024), pytest.param("D4W64", 16384, marks=thorough)])
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
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=CPU, units=rays, unit="rays", flops=6.0 * net.macs,
    )  # fmt: skip
