"""ops.encode_beams against its reference at the paper's sizes: 16 points, raw and with 10 frequencies."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops

NUMBERS = {"near": 0.4, "far": 1.2, "points": 16, "scale": 4.0}
SIZES = (4096, pytest.param(65536, marks=pytest.mark.thorough))


def flops(frequencies: int) -> float:
    """Of a ray: a point's product, sum and scale (9), then an angle and two functions a frequency."""
    return 16 * (9 + 3 * 3 * frequencies)


def case(device: torch.device, rays: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    origins = 0.1 * torch.randn(rays, 3, generator=g)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=g), dim=-1)
    return [origins.to(device), directions.to(device)]


@pytest.mark.parametrize("frequencies", [0, 10])
@pytest.mark.parametrize("rays", SIZES)
def test_forward(race, device, rays, frequencies):
    inputs = case(device, rays)

    def run(backend: str) -> torch.Tensor:
        return ops.encode_beams(*inputs, **NUMBERS, frequencies=frequencies, backend=backend)

    # Rounding of the points themselves grows with the frequency: 2^9 times half a unit in the last place.
    torch.testing.assert_close(run("native"), run("reference"), rtol=0, atol=5e-4)
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=rays, unit="rays", flops=flops(frequencies),
        moved=4 * (6 + 48 * (2 * frequencies + 1)),
    )  # fmt: skip


@pytest.mark.parametrize("rays", SIZES)
def test_half(race, device, rays):
    """The reference makes float32, pads it and rounds it; `float32` is the kernel without the rounding."""
    inputs = case(device, rays)
    numbers = NUMBERS | {"pad_to": 16, "dtype": torch.float16}

    def run(backend: str) -> torch.Tensor:
        return ops.encode_beams(*inputs, **numbers, backend=backend)

    torch.testing.assert_close(run("native"), run("reference"), rtol=2e-3, atol=1e-3)
    moved = {"native": 2.0 * 1008, "reference": 2.0 * 1008, "float32": 4.0 * 1008}
    race(
        {
            **{name: lambda b=name: run(b) for name in ("native", "reference")},
            "float32": lambda: ops.encode_beams(*inputs, **NUMBERS),
        },
        device=device, units=rays, unit="rays", flops=flops(10), moved=moved,
    )  # fmt: skip


def test_forward_and_backward(race, device):
    rays, frequencies = 4096, 10
    leaves = [x.requires_grad_() for x in case(device, rays)]
    cotangent = torch.randn(rays, 1008, generator=torch.Generator().manual_seed(1)).to(device)

    def run(backend: str) -> tuple[torch.Tensor, ...]:
        out = ops.encode_beams(*leaves, **NUMBERS, frequencies=frequencies, backend=backend)
        return torch.autograd.grad(out, leaves, cotangent)

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=5.0)  # gradients are of the order of 2^9 * 16
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=rays, unit="rays", flops=3 * flops(frequencies), moved=2 * 4 * (6 + 1008),
    )  # fmt: skip
