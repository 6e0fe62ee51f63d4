"""ops.shade_lines against its reference, with all gradients: a training step's rays of nldf-fast."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.nldf_fast.model import GridLightField, GridLightFieldConfig

FRAMES = 8


@pytest.mark.parametrize("lines", [7000, pytest.param(50000, marks=pytest.mark.thorough)])
def test_forward_and_backward(race, lines):
    torch.manual_seed(0)
    field = GridLightField(GridLightFieldConfig(Bounds(0.6, 1.0)))
    network, width, planes = field.planes_network(), field.config.width, len(field.config.planes)
    starts = [lines * frame // FRAMES for frame in range(FRAMES + 1)]
    given = [torch.rand(lines, 4), torch.randn(FRAMES, width), torch.randn(FRAMES, width)]
    given[0][:, 2:] *= 0.1
    leaves = [*(x.requires_grad_() for x in given), network.warp_table, *network.tables]
    leaves += [layer.weight for layer in (field.warp_body, field.warp_tail, *field.body, field.tail)]
    cotangent = torch.randn(lines, planes, 3), torch.randn(lines)

    def run(backend: str) -> tuple[torch.Tensor, ...]:
        # Weights are views of the parameters, so the network is made anew with every graph.
        out = ops.shade_lines(given[0], starts, *given[1:], field.planes_network(), backend=backend)
        return torch.autograd.grad(out, leaves, cotangent)

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-3 * float(want.abs().max()))
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=torch.device("cpu"), units=lines, unit="rays", flops=3 * 2.0 * field.macs,
    )  # fmt: skip
