"""ops.step_adam against its reference and torch's fused Adam; a batch met one table entry in four."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops

ENTRIES, FEATURES = 262_144, 4  # about nldf-fast's tables
# Of a feature that moves: two moments (7), their root and quotient (5), the change (1).
FLOPS = 13.0


@pytest.mark.parametrize("share", [0.25, pytest.param(1.0, marks=pytest.mark.thorough)])
def test_step(race, device, share):
    g = torch.Generator().manual_seed(0)
    table = torch.randn(ENTRIES, FEATURES, generator=g).to(device)
    met = torch.rand(ENTRIES, 1, generator=g) < share
    gradient = (torch.randn(ENTRIES, FEATURES, generator=g) * met).to(device)
    states = {name: [table.clone(), 0 * table, 0 * table] for name in ("native", "reference")}

    def run(name: str) -> None:
        mine, first, second = states[name]
        ops.step_adam(mine, gradient, first, second, 10, 1e-3, backend=name)

    for _ in range(2):
        run("native"), run("reference")
    for got, want in zip(*states.values(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    dense = table.clone().requires_grad_()
    dense.grad = gradient
    adam = torch.optim.Adam([dense], 1e-3, (0.9, 0.99), 1e-15, fused=True)
    race(
        {
            "native": lambda: run("native"),
            "reference": lambda: run("reference"),
            "torch fused, dense": adam.step,
        },
        device=device, units=ENTRIES, unit="entries", flops=FLOPS * FEATURES * share,
        moved=4 * FEATURES * (1 + 6 * share),
    )  # fmt: skip
