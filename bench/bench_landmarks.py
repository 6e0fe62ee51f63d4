"""ops.encode_landmarks against its reference: points of a head's box, 0.3 m wide, and the 49 or 68 landmarks
of a face whose Gaussians are 0.03 to 0.05 m wide, with 3 levels of depth and without depth."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops

POINTS = 16384
COUNTS = (49, 68)
FEATURES = 7
# Of a point and landmark: its offset (3), u = A d and q (20), the exponential (2), the depth (5); a sine and
# a cosine at once (2), then two doublings (5 each), and a product a feature. Back: the features' slopes (8 a
# level), and the sums of a landmark and of a point (50).
FLOPS, WEIGHT_FLOPS = 30 + 12 + FEATURES, 25
BACKWARD_FLOPS = FLOPS + 24 + 50


def case(device: torch.device, count: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    inputs = [
        0.3 * torch.rand(1, POINTS, 3, generator=g) - 0.15,
        torch.tensor([0.14, 0.16, 0.1]) * (torch.rand(1, count, 3, generator=g) - 0.5),
        torch.randn(count, 4, generator=g),
        (0.03 + 0.02 * torch.rand(count, 3, generator=g)).log(),
        torch.nn.functional.normalize(torch.tensor([[0.1, -0.2, 1.0]]), dim=1),
    ]
    return [x.to(device) for x in inputs]


@pytest.mark.parametrize("depth", [True, False])
@pytest.mark.parametrize("count", COUNTS)
def test_forward(race, device, count, depth):
    inputs = case(device, count)

    def run(backend: str) -> torch.Tensor:
        return ops.encode_landmarks(*inputs, depth=depth, backend=backend)

    # At a landmark's cut, 9.7e-5, the two may round to different sides.
    torch.testing.assert_close(run("native"), run("reference"), rtol=0, atol=1.2e-4)
    features = FEATURES if depth else 1
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=POINTS, unit="points", flops=count * (FLOPS if depth else WEIGHT_FLOPS),
        moved=4 * (3 + features * count),
    )  # fmt: skip


@pytest.mark.parametrize("to_points", [True, False])
@pytest.mark.parametrize("count", COUNTS)
def test_forward_and_backward(race, device, count, to_points):
    points, *shapes, axis = case(device, count)
    leaves = [x.requires_grad_() for x in ([points] if to_points else []) + shapes]
    g = torch.Generator().manual_seed(1)
    cotangent = torch.randn(1, POINTS, FEATURES * count, generator=g).to(device)

    def run(backend: str) -> tuple[torch.Tensor, ...]:
        out = ops.encode_landmarks(points, *shapes, axis, backend=backend)
        return torch.autograd.grad(out, leaves, cotangent)

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=POINTS, unit="points", flops=count * (FLOPS + BACKWARD_FLOPS),
        moved=4 * (2 * 3 + 2 * FEATURES * count + 3 * to_points),
    )  # fmt: skip
