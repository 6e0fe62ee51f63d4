"""Problems for the kernels of `layers`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simt.problem import Problem, case
from simt.runner import Source

MMA_BLOCK = Source("tests/simt/mma_block.cu", "layers.h", ("mma_block",))
WGMMA_RING = Source("tests/simt/wgmma_ring.cu", "layers.h", ("wgmma_ring",))


def swizzle(weights: Tensor) -> Tensor:
    """[N, K] to chunks [K / 64, N, 64] whose 16-byte columns j lie at j ^ (n % 8), as wgmma reads them."""
    rows, width = weights.shape
    chunks = weights.reshape(rows, width // 64, 8, 8).transpose(0, 1)
    columns = torch.arange(8)[None] ^ (torch.arange(rows) % 8)[:, None]
    packed = torch.empty_like(chunks)
    packed.scatter_(2, columns[None, :, :, None].expand_as(chunks), chunks)
    return packed.contiguous()


@case(MMA_BLOCK)
def mma_block(size: int) -> Problem:
    g = torch.Generator().manual_seed(size)
    given = {
        "x": torch.randn(size, 64, generator=g).half(),
        "w1": (0.2 * torch.randn(64, 64, generator=g)).half(),
        "b1": 0.5 * torch.randn(64, generator=g),
        "w2": (0.2 * torch.randn(64, 64, generator=g)).half(),
        "b2": 0.5 * torch.randn(64, generator=g),
    }

    # In float32 halves are rounded where the kernel rounds them, in float64 nowhere.
    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        x, w1, b1, w2, b2 = (value.to(dtype) for value in given.values())
        hidden = torch.relu(x @ w1.T + b1)
        if dtype == torch.float32:
            hidden = hidden.half().float()
        y = torch.relu(x + hidden @ w2.T + b2)
        return {"y": y.half() if dtype == torch.float32 else y}

    return Problem(given, {"y": (size, 64)}, {"rows": size}, reference, dtype=np.float16)


@case(WGMMA_RING)
def wgmma_ring(size: int) -> Problem:
    g = torch.Generator().manual_seed(size)
    x = torch.randn(size, 256, generator=g).half()
    weights = (0.1 * torch.randn(128, 256, generator=g)).half()
    b = 0.5 * torch.randn(128, generator=g)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        return {"y": torch.relu(x.to(dtype) @ weights.to(dtype).T + b.to(dtype))}

    inputs = {"x": x, "packed": swizzle(weights), "b": b}
    return Problem(inputs, {"y": (size, 128)}, {"rows": size}, reference)
