"""ops.aim_rays and ops.rays_to_lines with their gradients: a training step's rays of nldf-fast."""

from __future__ import annotations

import torch

from nldf_engine import ops

FRAMES, RAYS = 8, 1024


def test_forward_and_backward(race, device):
    torch.manual_seed(0)
    origins = torch.tensor([0.0, 0.0, -0.8], device=device).repeat(FRAMES, RAYS, 1)
    towards = torch.randn(FRAMES, RAYS, 3, device=device) * 0.2
    towards[..., 2] = 1
    turns = torch.zeros(FRAMES, 6, device=device, requires_grad=True)
    cells = torch.ones(96, 96, dtype=torch.uint8, device=device)
    still, half = torch.zeros(FRAMES, 3, device=device), torch.tensor(0.4, device=device)
    box = torch.tensor([-0.2, -0.2, 0.2, 0.2], device=device)
    cotangent = torch.randn(FRAMES, RAYS, 4, device=device)

    def run(backend: str) -> tuple[torch.Tensor, ...]:
        rays = ops.aim_rays(origins, towards, still, turns, cells, half, -0.04, backend=backend)
        lines = ops.rays_to_lines(*rays[:2], box, backend=backend)
        return torch.autograd.grad(lines, turns, cotangent)

    torch.testing.assert_close(run("native"), run("reference"), rtol=1e-3, atol=1e-2)
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=FRAMES * RAYS, unit="rays", moved=4.0 * 50,
    )  # fmt: skip
