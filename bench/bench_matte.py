"""ops.compare_matte with its gradients: a training step's rays of nldf-fast."""

from __future__ import annotations

import torch

from nldf_engine import ops

FRAMES, RAYS = 8, 1024


def test_forward_and_backward(race, device):
    torch.manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(FRAMES, RAYS, *shape, device=device)

    leaves = [x.requires_grad_() for x in (rand(2, 3), rand(), rand(3), rand())]
    rest = rand(3), rand(3), rand().round(), rand().round(), (rand(3), rand())
    labels = torch.randint(0, 5, (FRAMES, RAYS), device=device).to(torch.uint8)
    weights = ops.MatteWeights(2.0, 8.0, 0.3, 2.0, 0.03, 0.02)

    def run(backend: str) -> tuple[torch.Tensor, ...]:
        made = ops.compare_matte(
            tuple(leaves[:2]), tuple(leaves[2:]), *rest, labels, (0, 1, 3), weights, backend=backend
        )
        return torch.autograd.grad(made.total, leaves)

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=FRAMES * RAYS, unit="rays", moved=4.0 * 60,
    )  # fmt: skip
