"""Problems for the kernels of `compact`."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops.reference import compact_over_reference, compact_reference
from simt.problem import Problem, case
from simt.runner import Source

COMPACT = Source("csrc/ops/compact_cuda.cu", "ops/compact.h", ("compact", "compact_over"))


@case(COMPACT)
def compact(size: int) -> Problem:
    rays = 17 * size  # up to three tiles
    mask = (torch.rand(rays, generator=torch.Generator().manual_seed(size)) > 0.6).to(torch.uint8) * 3

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        return dict(zip(("order", "count"), compact_reference(mask), strict=True))

    places = {"order": rays, "count": 1, "tiles": -(-rays // 2048)}
    outputs = {name: torch.zeros(number, dtype=torch.int32) for name, number in places.items()}
    return Problem({"mask": mask}, outputs, {"rays": rays}, reference, slack=0)


@case(COMPACT)
def compact_over(size: int) -> Problem:
    g = torch.Generator().manual_seed(size)
    order, count = compact_reference((torch.rand(size, generator=g) > 0.4).to(torch.uint8))
    chosen = int(count)
    inputs = {
        "colors": torch.rand(chosen, 3, generator=g),
        "opacity": torch.rand(chosen, generator=g),
        "order": order,
        "under_color": torch.rand(size, 3, generator=g),
        "under_alpha": torch.rand(size, generator=g),
    }

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        given = [x if x.dtype == torch.int32 else x.to(dtype) for x in inputs.values()]
        return dict(zip(("out_color", "out_alpha"), compact_over_reference(*given), strict=True))

    outputs = {"out_color": (size, 3), "out_alpha": (size,)}
    return Problem(inputs, outputs, {"rays": size, "chosen": chosen}, reference)
