"""ops.gather_references against its reference, torch's own lookup, closed forms and bad input."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine import ops


def draw(points: int, count: int, height: int, width: int, channels: int, seed: int = 0) -> list[Tensor]:
    """Points of a head's box seen by cameras about 0.7 m away, and offsets of some pixels."""
    g = torch.Generator().manual_seed(seed)
    pose = torch.eye(4).repeat(count, 1, 1)
    turn = torch.linalg.matrix_exp(0.1 * torch.randn(count, 3, 3, generator=g).triu(1))
    pose[:, :3, :3] = turn
    pose[:, :3, 3] = torch.tensor([0.0, 0.0, 0.7]) + 0.02 * torch.randn(count, 3, generator=g)
    intrinsics = torch.tensor([[1.8 * width, 0, 0.5 * width], [0, 1.8 * width, 0.5 * height], [0, 0, 1]])
    return [
        0.3 * torch.rand(points, 3, generator=g) - 0.15,
        (intrinsics @ pose[:, :3]).contiguous(),
        torch.randn(count, height, width, channels, generator=g),
        2 * torch.randn(points, count, 2, generator=g),
    ]


def test_agrees_with_torch():
    """Features are those of grid_sample with its border, at the places that the projection gives."""
    points, projections, maps, offsets = draw(200, 3, 20, 30, 5)
    features, places = ops.gather_references(points, projections, maps, offsets)
    at = places.permute(1, 0, 2)[:, :, None] / torch.tensor([30.0, 20.0]) * 2 - 1
    want = torch.nn.functional.grid_sample(
        maps.permute(0, 3, 1, 2), at, padding_mode="border", align_corners=False
    )
    torch.testing.assert_close(features, want[..., 0].permute(2, 0, 1), rtol=0, atol=2e-5)
