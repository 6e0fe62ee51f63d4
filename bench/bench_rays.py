"""ops.generate_rays against its reference: a frame's pixels, forward and with gradients."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops

# Through the intrinsics 4, by the rotation 12, to unit length 10; a backward pass is counted as twice that.
FLOPS = 26.0
MOVED = 4 * 8


def case(device: torch.device, side: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    pose = torch.eye(4)[None] + 0.1 * torch.randn(1, 4, 4, generator=g)
    intrinsics = torch.tensor([[2.0 * side, 2.0 * side, side / 2, side / 2]])
    pixels = side * torch.rand(1, side * side, 2, generator=g)
    return [x.to(device) for x in (pose, intrinsics, pixels)]


@pytest.mark.parametrize("side", [pytest.param(128, marks=pytest.mark.thorough), 512])
def test_forward(race, device, side):
    inputs = case(device, side)
    native, reference = (lambda b=b: ops.generate_rays(*inputs, backend=b) for b in ("native", "reference"))
    for got, want in zip(native(), reference(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    race(
        {"native": native, "reference": reference},
        device=device, units=side * side, unit="rays", flops=FLOPS, moved=MOVED,
    )  # fmt: skip


def test_forward_and_backward(race, device):
    side = 256
    pose, intrinsics, pixels = case(device, side)
    g = torch.Generator().manual_seed(1)
    cotangent = [torch.randn(1, side * side, 3, generator=g).to(device) for _ in range(2)]
    leaves = (pose.requires_grad_(), intrinsics.requires_grad_())

    def run(backend: str) -> tuple[torch.Tensor, ...]:
        out = ops.generate_rays(*leaves, pixels, backend=backend)
        return torch.autograd.grad(out, leaves, cotangent)

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-2)
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=side * side, unit="rays", flops=3 * FLOPS, moved=2 * MOVED,
    )  # fmt: skip
