"""The frequency encoding of NeRF, for points and directions."""

from __future__ import annotations

import torch
from torch import Tensor


def frequency_dim(dim: int, frequencies: int) -> int:
    """Size of the encoding of `dim` inputs, the input itself included."""
    return dim * (2 * frequencies + 1)


def encode_frequencies(x: Tensor, frequencies: int) -> Tensor:
    """[x, sin x, cos x, sin 2x, cos 2x, ..., sin 2^(L-1) x, cos 2^(L-1) x] of x [..., D].

    The angles are doubled by recurrence (sin 2a = 2 sin a cos a), which costs two transcendental
    functions instead of 2 L; in float32 the error stays under 1e-3 at L = 10 for |x| <= 2.

    Returns:
        [..., D (2 L + 1)] in the dtype of `x`.
    """
    parts = [x]
    if frequencies:
        sine, cosine = torch.sin(x), torch.cos(x)
        for level in range(frequencies):
            parts += [sine, cosine]
            if level + 1 < frequencies:
                sine, cosine = 2 * sine * cosine, 1 - 2 * sine * sine
    return torch.cat(parts, -1)
