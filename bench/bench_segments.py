"""ops.composite_segments against its reference: AD-NeRF's coarse pass of 64 samples, and its fine one."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops

RAYS = (1024, pytest.param(8192, marks=pytest.mark.thorough))
PASSES = [(64, 1), (192, 4)]
# Of a sample: its optical depth, exponential, opacity, transmittance and weight (6), three colours (6).
FLOPS = 12.0


def case(device: torch.device, rays: int, samples: int) -> list[torch.Tensor]:
    """A third of the samples empty, as in a trained field."""
    g = torch.Generator().manual_seed(0)
    sigma = 30 * torch.rand(rays, samples, generator=g) * (torch.rand(rays, samples, generator=g) > 0.3)
    rgb = torch.rand(rays, samples, 3, generator=g)
    delta = 0.8 / samples * (0.5 + torch.rand(rays, samples, generator=g))
    return [x.to(device) for x in (sigma, rgb, delta)]


@pytest.mark.parametrize(("samples", "segments"), PASSES)
@pytest.mark.parametrize("rays", RAYS)
def test_forward(race, device, rays, samples, segments):
    inputs = case(device, rays, samples)

    def run(backend: str) -> tuple[torch.Tensor, ...]:
        return ops.composite_segments(*inputs, segments=segments, backend=backend)

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=rays, unit="rays", flops=FLOPS * samples,
        moved=4 * (5 * samples + 3 * segments + 1),
    )  # fmt: skip


@pytest.mark.parametrize(("samples", "segments"), PASSES)
@pytest.mark.parametrize("rays", RAYS)
def test_forward_and_backward(race, device, rays, samples, segments):
    sigma, rgb, delta = case(device, rays, samples)
    leaves = (sigma.requires_grad_(), rgb.requires_grad_())
    g = torch.Generator().manual_seed(1)
    cotangent = [torch.randn(rays, *tail, generator=g).to(device) for tail in ((segments, 3), ())]

    def run(backend: str) -> tuple[torch.Tensor, ...]:
        out = ops.composite_segments(*leaves, delta, segments=segments, backend=backend)
        return torch.autograd.grad(out, leaves, cotangent)

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=rays, unit="rays", flops=3 * FLOPS * samples,
        moved=4 * (5 + 9) * samples,
    )  # fmt: skip
