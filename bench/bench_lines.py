"""ops.shade_lines against its reference, with all gradients: a training step's rays of nldf-fast."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.nldf_fast.model import GridLightField
from nldf_engine.systems.nldf_fast.recipe import usual_network

FRAMES, INSIDE = 8, 0.8


@pytest.mark.parametrize("lines", [1024, pytest.param(8192, marks=pytest.mark.thorough)])
def test_forward_and_backward(race, lines, device):
    torch.manual_seed(0)
    field = GridLightField(usual_network(Bounds(0.6, 1.0), ConditionConfig())).to(device)
    network, planes = field.lines_network(), len(field.config.planes)
    given = torch.rand(FRAMES, lines, 4), torch.randn(FRAMES, network.frame)
    given[0][..., 2:] *= 0.1
    rays, inputs = (x.to(device).requires_grad_() for x in given)
    inside = (torch.rand(FRAMES, lines) < INSIDE).to(device)
    leaves = [rays, inputs, *(p for name, p in field.named_parameters() if not name.startswith("encoder"))]
    cotangent = torch.randn(FRAMES, lines, planes, 3).to(device), torch.randn(FRAMES, lines).to(device)

    def run(backend: str) -> tuple[torch.Tensor, ...]:
        out = ops.shade_lines(rays, inside, inputs, network, backend=backend)
        return torch.autograd.grad(out, leaves, cotangent)

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-3 * float(want.abs().max()))
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=int(inside.sum()), unit="rays", flops=3 * 2.0 * field.macs,
    )  # fmt: skip
