"""ops.planes against its twin, beside the product of two 2048 x 2048 matrices in the same run.

The network is the light field's usual one with two planes.
"""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops
from nldf_engine.models.fast import GridLightField, GridLightFieldConfig
from nldf_engine.rendering.fields import Bounds


@torch.no_grad()
@pytest.mark.parametrize("rays", [8192, 65536])
def test_forward(race, rays):
    torch.manual_seed(0)
    field = GridLightField(GridLightFieldConfig(Bounds(0.6, 1.0), planes=(-0.06, 0.03))).eval()
    network, packed = field.planes_network(), field.packed()
    width = field.config.width
    biases = torch.randn(1, width), torch.randn(1, width)
    origins = torch.tensor([0.0, 0.0, -0.8]).repeat(1, rays, 1)
    # Neighbouring rays lie side by side, as in a picture.
    across = torch.linspace(-0.2, 0.2, int(rays**0.5) + 1)
    grid = torch.cartesian_prod(across, across)[:rays]
    directions = torch.cat([grid.flip(1), torch.ones(rays, 1)], 1)[None].contiguous()
    given = (origins, directions, *biases, network)
    for ours, twin in zip(
        ops.planes(*given, packed=packed), ops.planes(*given, backend="reference"), strict=True
    ):
        torch.testing.assert_close(ours, twin, rtol=1e-4, atol=1e-5)
    square = torch.randn(2048, 2048)
    flops = 2.0 * rays * field.macs
    race(
        {
            "native": lambda: ops.planes(*given, packed=packed),
            "reference": lambda: ops.planes(*given, backend="reference"),
            "matmul 2048": lambda: torch.mm(square, square),
        },
        device=torch.device("cpu"),
        units={"native": rays, "reference": rays, "matmul 2048": 2048},
        unit="rays",
        work={"native": flops, "reference": flops, "matmul 2048": 2.0 * 2048**3},
        work_unit="GFLOP/s",
        rounds=7,
    )
