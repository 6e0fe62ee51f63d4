"""ops.planes against its reference, beside the product of two 2048 x 2048 matrices in the same run.

The network is the light field's usual one with two planes. On CUDA the kernel computes in fp16.
"""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.nldf_fast.model import GridLightField
from nldf_engine.systems.nldf_fast.recipe import usual_network


@torch.no_grad()
@pytest.mark.parametrize("rays", [8192, 65536])
def test_forward(race, rays, device):
    torch.manual_seed(0)
    field = GridLightField(usual_network(Bounds(0.6, 1.0), ConditionConfig())).to(device).eval()
    network, packed = field.planes_network(), field.packed()
    width = field.config.width
    biases = torch.randn(1, width, device=device), torch.randn(1, width, device=device)
    origins = torch.tensor([0.0, 0.0, -0.8]).repeat(1, rays, 1)
    # Neighbouring rays lie side by side, as in a picture.
    across = torch.linspace(-0.2, 0.2, int(rays**0.5) + 1)
    grid = torch.cartesian_prod(across, across)[:rays]
    directions = torch.cat([grid.flip(1), torch.ones(rays, 1)], 1)[None].contiguous()
    given = (origins.to(device), directions.to(device), *biases, network)
    slack = 1e-5 if device.type == "cpu" else 2e-2
    for ours, reference in zip(
        ops.planes(*given, packed=packed), ops.planes(*given, backend="reference"), strict=True
    ):
        assert (ours - reference).norm() <= slack * reference.norm()
    square = torch.randn(2048, 2048, device=device)
    flops = 2.0 * rays * field.macs
    race(
        {
            "native": lambda: ops.planes(*given, packed=packed),
            "reference": lambda: ops.planes(*given, backend="reference"),
            "matmul 2048": lambda: torch.mm(square, square),
        },
        device=device,
        units={"native": rays, "reference": rays, "matmul 2048": 2048},
        unit="rays",
        work={"native": flops, "reference": flops, "matmul 2048": 2.0 * 2048**3},
        work_unit="GFLOP/s",
        rounds=7,
    )
