"""ops.composite_segments against its reference: colours (AD-NeRF's coarse pass of 64 samples, and its fine
one), and the features of a 32x32 map (HeadNeRF: 256 channels; 64; and 48 of its small preset)."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops

RAYS = (1024, pytest.param(8192, marks=pytest.mark.thorough))
PASSES = [(64, 1), (192, 4)]
# Of a sample: its optical depth, exponential, opacity, transmittance and weight (6), three colours (6).
FLOPS = 12.0
# Pixels of the map by samples, and channels.
MAP, CHANNELS = (1024, 64), (48, 64, 256)


def case(device: torch.device, rays: int, samples: int, channels: int = 3) -> list[torch.Tensor]:
    """A third of the samples empty, as in a trained field."""
    g = torch.Generator().manual_seed(0)
    sigma = 30 * torch.rand(rays, samples, generator=g) * (torch.rand(rays, samples, generator=g) > 0.3)
    features = torch.rand(rays, samples, channels, generator=g)
    delta = 0.8 / samples * (0.5 + torch.rand(rays, samples, generator=g))
    return [x.to(device) for x in (sigma, features, delta)]


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


def composite(
    sigma: torch.Tensor, features: torch.Tensor, delta: torch.Tensor, by: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """One segment by the op's native or reference backend, or as PyTorch does it best: weights, then bmm."""
    if by != "bmm":
        return ops.composite_segments(sigma, features, delta, segments=1, backend=by)
    passed = torch.exp(-sigma * delta)
    through = torch.cumprod(torch.cat([passed.new_ones(len(passed), 1), passed], 1), 1)
    weights = through[:, :-1] * (1 - passed)
    return torch.bmm(weights[:, None], features), 1 - through[:, -1]


@pytest.mark.parametrize("channels", CHANNELS)
def test_features_forward(race, device, channels):
    rays, samples = MAP
    inputs = case(device, rays, samples, channels)
    want = composite(*inputs, "reference")
    for by in ("native", "bmm"):
        torch.testing.assert_close(composite(*inputs, by), want, rtol=1e-4, atol=1e-5)
    # A product and a sum a channel. In: density, length and features; out: the pixel's features and opacity.
    race(
        {name: lambda b=name: composite(*inputs, b) for name in ("native", "reference", "bmm")},
        device=device, units=rays, unit="rays", flops=(6 + 2.0 * channels) * samples,
        moved=4 * ((2 + channels) * samples + channels + 1),
    )  # fmt: skip


@pytest.mark.parametrize("channels", CHANNELS)
def test_features_forward_and_backward(race, device, channels):
    rays, samples = MAP
    sigma, features, delta = case(device, rays, samples, channels)
    leaves = (sigma.requires_grad_(), features.requires_grad_())
    g = torch.Generator().manual_seed(1)
    cotangent = [torch.randn(rays, *tail, generator=g).to(device) for tail in ((1, channels), ())]

    def run(by: str) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(composite(*leaves, delta, by), leaves, cotangent)

    want = run("reference")
    for by in ("native", "bmm"):
        torch.testing.assert_close(run(by), want, rtol=1e-3, atol=1e-4)
    # Back, a channel: its part of the weight's gradient (2) and its own (1); a sample: transmittance and
    # weight again (5), the sum behind it and the density's gradient (8). All inputs are read twice.
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference", "bmm")},
        device=device, units=rays, unit="rays", flops=(19 + 5.0 * channels) * samples,
        moved=4 * (2 * (2 + channels) + 1 + channels) * samples,
    )  # fmt: skip
