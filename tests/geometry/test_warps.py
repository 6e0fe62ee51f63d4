"""Thin-plate splines against scipy's."""

from __future__ import annotations

import pytest
import torch
from scipy.interpolate import RBFInterpolator

from fields import seeded
from nldf_engine.geometry.warps import thin_plate


@pytest.mark.parametrize("smoothing", [0.0, 1e-3])
def test_it_agrees_with_scipy(smoothing: float) -> None:
    """Two sets of points at once, with and without smoothing."""
    generator = seeded()
    points, moves = (torch.rand(2, 20, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    at = torch.rand(50, 2, generator=generator, dtype=torch.float64) * 2 - 0.5
    found = thin_plate(points, moves, at, smoothing)
    for own, shift, seen in zip(points, moves, found, strict=True):
        oracle = RBFInterpolator(own.numpy(), shift.numpy(), smoothing=smoothing, kernel="thin_plate_spline")
        assert torch.allclose(seen, torch.from_numpy(oracle(at.numpy())), atol=1e-9)


def test_affine_moves_are_affine_everywhere() -> None:
    """What only scales and shifts the points does so far from them as well, smoothing or not."""
    points = torch.rand(1, 12, 2, generator=seeded(1))
    at = torch.tensor([[5.0, -3.0], [0.2, 0.4]])
    found = thin_plate(points, 0.1 * points + torch.tensor([0.3, -0.2]), at, 1e-2)
    assert torch.allclose(found[0], 0.1 * at + torch.tensor([0.3, -0.2]), atol=1e-5)


def test_points_that_span_nothing_are_refused() -> None:
    line = torch.linspace(0, 1, 5)[None, :, None].expand(1, 5, 2)
    for points in (line[:, :2], line):
        with pytest.raises(ValueError, match="points: expected"):
            thin_plate(points, torch.zeros_like(points), torch.zeros(1, 2))
