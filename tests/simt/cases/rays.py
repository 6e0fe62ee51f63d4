"""Problems for the kernels of `rays`."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops.reference import rays_reference
from simt.problem import Problem, case, gradients, leaves
from simt.runner import Source

RAYS = Source("csrc/ops/rays_cuda.cu", "ops/rays.h", ("rays", "rays_backward"))


def _rays_inputs(pixels: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(pixels)
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[:, :3] += 0.2 * torch.randn(2, 3, 4, generator=g)
    intrinsics = torch.tensor([500.0, 520.0, 120.0, 130.0]) + 10 * torch.randn(2, 4, generator=g)
    return {"pose": pose, "intrinsics": intrinsics, "pixels": 256 * torch.rand(2, pixels, 2, generator=g)}


@case(RAYS)
def rays(size: int) -> Problem:
    inputs = _rays_inputs(size)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        out = rays_reference(*(x.to(dtype) for x in inputs.values()))
        return dict(zip(("origins", "directions"), out, strict=True))

    shape = (2, size, 3)
    return Problem(
        inputs, {"origins": shape, "directions": shape}, {"frames": 2, "per_frame": size}, reference
    )


@case(RAYS)
def rays_backward(size: int) -> Problem:
    inputs = _rays_inputs(size)
    g = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(2, size, 3, generator=g) for _ in range(2)]
    block = 100

    # `partial` sums over blocks of pixels: the reference's gradient, block by block.
    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        pieces = []
        for begin in range(0, size, block):
            part = slice(begin, begin + block)
            pose, intrinsics = leaves(inputs, dtype, "pose", "intrinsics")
            out = rays_reference(pose, intrinsics, inputs["pixels"][:, part].to(dtype))
            v = gradients(list(out), [c[:, part] for c in cotangents], [pose, intrinsics])
            pieces.append(torch.cat([v[0][:, :3].reshape(2, 12), v[1]], 1))
        return {"partial": torch.stack(pieces, 1) if pieces else torch.zeros(2, 0, 16, dtype=dtype)}

    given = inputs | {"v_origins": cotangents[0], "v_directions": cotangents[1]}
    numbers = {"frames": 2, "per_frame": size, "block": block}
    return Problem(given, {"partial": (2, -(-size // block), 16)}, numbers, reference)
