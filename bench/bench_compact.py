"""ops.compact_rays and ops.composite_rays against their twins, for a 512 frame with a head."""

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
    names = ("native", "reference", "nonzero")
    race(
        {
            **{name: lambda b=name: ops.compact_rays(mask, backend=b) for name in names[:2]},
            "nonzero": lambda: mask.nonzero(),
        },
        device=device, units=dict.fromkeys(names, len(mask)), unit="rays",
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
    names = ("native", "reference")
    race(
        {name: lambda b=name: run(b) for name in names},
        device=device, units=dict.fromkeys(names, len(mask)), unit="rays",
    )  # fmt: skip
