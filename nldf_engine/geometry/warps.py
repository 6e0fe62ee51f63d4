"""Smooth maps of the plane that move given points by given amounts."""

from __future__ import annotations

import torch
from torch import Tensor


def thin_plate(points: Tensor, moves: Tensor, at: Tensor, smoothing: float = 0.0) -> Tensor:
    """How far a thin-plate spline moves places of the plane (Bookstein 1989): it bends as little as it can.

    Far from all points the map is affine but for a logarithm's growth, so what lies about a face follows it.

    Args:
        points: [F, P, 2], P at least 3 and not on one line; of the size of one, so that the smoothing means
            the same everywhere.
        moves: [F, P, 2], of the points.
        at: [N, 2] places, the same for all F.
        smoothing: what bending costs beside the distance to `moves`; 0 for exactly those.

    Returns:
        [F, N, 2], dtype of `at`.

    Raises:
        ValueError: fewer than three points, or none that span the plane.

    Example:
        moves = thin_plate(landmarks / width, shifts / width, pixels / width)
    """
    frames, count, _ = points.shape
    if count < 3:
        raise ValueError(f"points: expected three or more, got {count}")
    known, wanted = points.double(), moves.double()
    affine = torch.cat([torch.ones_like(known[..., :1]), known], -1)
    bend = _bending(torch.cdist(known, known)) + smoothing * torch.eye(count, dtype=known.dtype)
    corner = known.new_zeros(frames, 3, 3)
    system = torch.cat(
        [torch.cat([bend, affine], 2), torch.cat([affine.transpose(1, 2), corner], 2)], 1
    )  # fmt: skip
    right = torch.cat([wanted, known.new_zeros(frames, 3, 2)], 1)
    try:
        solved = torch.linalg.solve(system, right).to(at)
    except torch.linalg.LinAlgError as error:
        raise ValueError("points: expected some that are not on one line and differ") from error
    bent, flat = solved.split([count, 3], 1)
    straight = torch.cat([torch.ones_like(at[:, :1]), at], 1)
    return _bending(torch.cdist(at.expand(frames, -1, -1), points.to(at))) @ bent + straight @ flat


def _bending(distance: Tensor) -> Tensor:
    """r^2 log r, which is 0 at 0."""
    return torch.xlogy(distance.square(), distance)
