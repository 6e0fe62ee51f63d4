"""ops.resample against its reference: AD-NeRF's step from 64 coarse samples to 192."""

from __future__ import annotations

import math

import pytest
import torch

from nldf_engine import ops


@pytest.mark.parametrize("rays", [1024, pytest.param(8192, marks=pytest.mark.thorough)])
def test_forward(race, device, rays):
    samples, count = 64, 128
    g = torch.Generator().manual_seed(0)
    distances = torch.sort(0.4 + 0.8 * torch.rand(rays, samples, generator=g), 1).values.to(device)
    weights = torch.rand(rays, samples, generator=g).pow(8).to(device)
    jitter = torch.rand(rays, count, generator=g).to(device)

    def run(backend: str) -> torch.Tensor:
        return ops.resample(distances, weights, count, jitter, backend=backend)

    # Where a bin holds hardly more than the floor's mass, rounding moves a draw by a part of the bin.
    torch.testing.assert_close(run("native"), run("reference"), rtol=0, atol=2e-2)
    assert float((run("native") - run("reference")).abs().mean()) < 1e-6
    # Weights to a running sum (3 a sample); search by halves and a line (5) a draw; one comparison to merge.
    flops = 3 * samples + (math.log2(samples) + 5) * count + samples + count
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=rays, unit="rays", flops=flops, moved=4 * (3 * samples + 2 * count),
    )  # fmt: skip
