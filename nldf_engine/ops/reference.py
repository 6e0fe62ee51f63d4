"""The slow twins: every operation in plain PyTorch, for any dtype and device, with torch's own gradients.

They are what the kernels are tested against, and what `backend="reference"` runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def rays_reference(pose: Tensor, intrinsics: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Twin of `ops.generate_rays`: pose [F, 4, 4], intrinsics [F, 4], pixels [F, P, 2] to two [F, P, 3]."""
    focal, center = intrinsics[:, None, :2], intrinsics[:, None, 2:]
    plane = (pixels - center) / focal
    camera = torch.cat([plane, torch.ones_like(plane[..., :1])], -1)
    directions = torch.matmul(camera, pose[:, :3, :3].transpose(1, 2))
    directions = directions / torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
    return pose[:, None, :3, 3].expand_as(directions).contiguous(), directions


def beams_reference(
    origins: Tensor, directions: Tensor, near: float, far: float,
    points: int = 16, frequencies: int = 10, scale: float = 1.0,
) -> Tensor:  # fmt: skip
    """Twin of `ops.encode_beams`: two [R, 3] to [R, 3 * points * (2 * frequencies + 1)]."""
    distance = torch.linspace(near, far, points, dtype=origins.dtype, device=origins.device)
    x = (origins[:, None] + distance[:, None] * directions[:, None]) * scale
    x = x.reshape(len(origins), 3 * points)
    parts = [x]
    for level in range(frequencies):
        parts += [torch.sin(x * 2**level), torch.cos(x * 2**level)]
    return torch.cat(parts, -1)


def segments_reference(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int = 4
) -> tuple[Tensor, Tensor, Tensor]:
    """Twin of `ops.composite_segments`: colours [R, M, 3], opacity [R] and the samples' weights [R, S]."""
    passed = torch.exp(-sigma * delta)
    through = torch.cumprod(torch.cat([passed.new_ones(len(passed), 1), passed], 1), 1)
    weights = through[:, : passed.shape[1]] * (1 - passed)
    size = sigma.shape[1] // segments
    colors = (weights[..., None] * rgb).reshape(len(sigma), segments, size, 3).sum(2)
    return colors, 1 - through[:, passed.shape[1]], weights


def resmlp_reference(
    x: Tensor, frame_bias: Tensor, head: Tensor, body: Sequence[Tensor], body_bias: Sequence[Tensor],
    tail: Tensor, tail_bias: Tensor,
) -> Tensor:  # fmt: skip
    """Twin of `ops.resmlp`: x [F, P, in], frame_bias [F, W] to [F, P, out]."""
    first = F.relu(torch.matmul(x, head.t()) + frame_bias[:, None])
    z = first
    for w1, b1, w2, b2 in zip(body[::2], body_bias[::2], body[1::2], body_bias[1::2], strict=True):
        z = z + F.linear(F.relu(F.linear(z, w1, b1)), w2, b2)
    return F.linear(z + first if len(body) else first, tail, tail_bias)
