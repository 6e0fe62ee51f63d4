"""Eq. (8a) in plain PyTorch: points to Gaussian landmark features.

Shapes: F frames, N points of each, L landmarks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def encode_landmarks(
    points: Tensor, landmarks: Tensor, rotations: Tensor, log_scales: Tensor, axes: Tensor, *,
    levels: int = 3, depth: bool = True, depth_scale: float = 1.0, cut: float = 4.0, backend: str = "native",
) -> Tensor:  # fmt: skip
    """r(x | l) = exp(-1/2 d^T Sigma^-1 d) gamma(d_z) with Sigma = R S (R S)^T, d = x - l.

    gamma(z) = [z, sin(pi z), cos(pi z), sin(2 pi z), cos(2 pi z), ...].

    Args:
        points: [F, N, 3] metres.
        landmarks: [F, L, 3] metres.
        rotations: [L, 4] quaternions w, x, y, z of R, of any length but 0.
        log_scales: [L, 3] logarithms of S.
        axes: [F, 3] unit vectors along which d_z is measured.
        levels: of gamma.
        depth: multiply by gamma; else the weights alone.
        depth_scale: multiplies d_z.
        cut: Mahalanobis distance beyond which a weight is zero.
        backend: ignored; there is one.

    Returns:
        [F, N, L (1 + 2 levels)] in blocks of L, one feature of every landmark each; [F, N, L] without depth.
    """
    factor = torch.exp(-log_scales)[..., None] * rotation_matrices(rotations).transpose(1, 2)  # S^-1 R^T
    stacked = factor.reshape(-1, 3)  # [3 L, 3]: u = A (x - l) is two products and no [F, N, L, 3] in between
    own = torch.einsum("fli,lji->flj", landmarks, factor).flatten(1)
    u = (points @ stacked.t() - own[:, None]).unflatten(-1, (-1, 3))
    square = u.square().sum(-1)
    weight = torch.where(square > cut * cut, 0.0, torch.exp(-0.5 * square))
    if not depth:
        return weight
    away = (points * axes[:, None]).sum(-1, keepdim=True) - (landmarks * axes[:, None]).sum(-1)[:, None]
    z = depth_scale * away
    waves = [z]
    for level in range(levels):
        angle = (math.pi * 2**level) * z
        waves += [torch.sin(angle), torch.cos(angle)]
    return torch.cat([weight * wave for wave in waves], -1)


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """[L, 3, 3] rotations of quaternions [L, 4] w, x, y, z."""
    w, x, y, z = F.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
