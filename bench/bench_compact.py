"""ops.compact_rays and ops.composite_rays against their references, for a 512 frame with a head."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops

SIDE = 512


def head(device: torch.device) -> torch.Tensor:
    """[SIDE * SIDE] bool: an ellipse over a third of the picture."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    return ((x / 0.6) ** 2 + (y / 0.75) ** 2 < 1).reshape(-1).to(device)


def test_order(race, device):
    mask = head(device)
    for got, want in zip(ops.compact_rays(mask), ops.compact_rays(mask, backend="reference"), strict=True):
        assert torch.equal(got, want)
    order = ops.compact_rays(mask)[0]
    race(
        {
            "native": lambda: ops.compact_rays(mask),
            "reference": lambda: ops.compact_rays(mask, backend="reference"),
            "nonzero": lambda: mask.nonzero(),
        },
        device=device, units=len(mask), unit="rays", flops=1, moved=1 + order.element_size(),
    )  # fmt: skip


@pytest.mark.parametrize("under", [False, True])
def test_frame(race, device, under):
    mask = head(device)
    order, count = ops.compact_rays(mask)
    opacity = torch.rand(int(count), device=device)
    colors = torch.rand(int(count), 3, device=device)
    behind = (torch.rand(len(mask), 3, device=device), torch.rand(len(mask), device=device))

    def run(backend: str) -> tuple[torch.Tensor, torch.Tensor]:
        return ops.composite_rays(colors, opacity, order, behind if under else None, backend=backend)

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want)
    # Four channels over four: a product and a sum each. In: the order and what is behind; out: a picture.
    moved = order.element_size() + 16 * int(count) / len(mask) + 16 + (16 if under else 0)
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=len(mask), unit="rays", flops=8.0 * under, moved=moved,
    )  # fmt: skip
