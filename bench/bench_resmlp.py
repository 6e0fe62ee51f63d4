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
    return ResMLP(in_dim, OUT, width, depth)


@pytest.mark.parametrize(("name", "rays"), [("D88W256", 4096), ("D88W256", 1024), ("D4W64", 65536)])
def test_forward(race, name, rays):
    net = network(name)
    x = torch.randn(1, rays, net.head.in_features)
    square = torch.randn(2048, 2048)
    with torch.no_grad():
        torch.testing.assert_close(net(x), net(x, backend="reference"), rtol=1e-4, atol=1e-4)
        work = {
            "fused fp32": 2.0 * net.macs * rays,
            "torch eager": 2.0 * net.macs * rays,
            "torch.mm": 2 * 2048.0**3,
        }
        race(
            {
                "fused fp32": lambda: net(x),
                "torch eager": lambda: net(x, backend="reference"),
                "torch.mm": lambda: torch.mm(square, square),
            },
            device=torch.device("cpu"), units=dict.fromkeys(work, rays), unit="rays",
            work=work, work_unit="GFLOP/s", rounds=8 if name == "D88W256" else 20,
        )  # fmt: skip
