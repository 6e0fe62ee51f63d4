"""The slow twins: every operation in plain PyTorch, for any dtype and device, with torch's own gradients.

They are what the kernels are tested against, and what `backend="reference"` runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from nldf_engine.ops.grid import GridSpec
    from nldf_engine.ops.planes import Linear, PlanesNetwork

_GRID_PRIMES = (1, 2654435761, 805459861, 1367130559)


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


def grid_reference(x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
    """Twin of `ops.encode_grid`: x [N, D] and table [entries, features] to [N, levels * features]."""
    corners = [[corner >> d & 1 for d in range(spec.dims)] for corner in range(1 << spec.dims)]
    clamped = x.clamp(0, 1)
    levels = []
    for resolution, offset, hashed in zip(spec.resolutions, spec.offsets, spec.hashed, strict=False):
        position = clamped * (resolution - 1)
        cell = position.detach().nan_to_num(0).floor().clamp(0, resolution - 2)
        upper = position - cell
        if spec.interpolation == "smoothstep":
            upper = upper * upper * (3 - 2 * upper)
        weights, vertices = torch.stack([1 - upper, upper]), cell.long()
        out = x.new_zeros(len(x), spec.features)
        for corner in corners:
            weight, index = weights[corner[0], :, 0], vertices[:, 0] + corner[0]
            for d in range(1, spec.dims):
                weight = weight * weights[corner[d], :, d]
                vertex = vertices[:, d] + corner[d]
                if hashed:
                    index = index ^ (vertex * _GRID_PRIMES[d] & 0xFFFFFFFF)
                else:
                    index = index + vertex * resolution**d
            if hashed:
                index = index & ((1 << spec.log2_table) - 1)
            out = out + weight[:, None] * table.index_select(0, offset + index)
        levels.append(out)
    return torch.cat(levels, 1)


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


def planes_reference(
    origins: Tensor, directions: Tensor, warp_bias: Tensor, bias: Tensor, network: PlanesNetwork
) -> tuple[Tensor, Tensor]:
    """Twin of `ops.planes`: origins, directions [F, P, 3] to segments [F, P, M, 3] and opacity [F, P]."""
    frames, count, _ = origins.shape
    depths, low, size = network.depths, network.box[:2], network.box[2:] - network.box[:2]
    slope = directions[..., :2] / directions[..., 2:]
    start = ((origins[..., :2] - origins[..., 2:] * slope - low) / size).reshape(-1, 2)
    slope = (slope / size).reshape(-1, 2)
    middle = start + sum(depths) / len(depths) * slope
    seen = torch.cat([grid_reference(middle, network.warp_table, network.warp_spec), 2 * middle - 1], 1)
    warp = _layers_reference(seen, warp_bias, network.warp_layers)
    parts = [
        grid_reference(
            start + z * slope + network.warp_scale * warp[:, 2 * i : 2 * i + 2], table, network.spec
        )
        for i, (z, table) in enumerate(zip(depths, network.tables, strict=True))
    ]
    out = _layers_reference(torch.cat([*parts, warp[:, 2 * len(depths) :]], 1), bias, network.layers)
    opacity = torch.sigmoid(network.opacity_slope * out[:, -1:])
    segments = (out[:, :-1] + 0.5 / len(depths)) * opacity
    return segments.view(frames, count, len(depths), 3), opacity.view(frames, count)


def _layers_reference(x: Tensor, frame_bias: Tensor, layers: Sequence[Linear]) -> Tensor:
    """x [F * P, in] through layers; the first one's bias [F, W] is the frame's."""
    first = (x @ layers[0][0].t()).view(len(frame_bias), -1, frame_bias.shape[1]) + frame_bias[:, None]
    hidden = F.relu(first).flatten(0, 1)
    for weight, bias in layers[1:-1]:
        hidden = F.relu(F.linear(hidden, weight, bias))
    return F.linear(hidden, *layers[-1])
