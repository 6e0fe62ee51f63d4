"""Problems for the kernels of `samples`."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops.reference import samples_reference
from simt.problem import Problem, case
from simt.runner import Source

SAMPLES = Source("csrc/ops/samples_cuda.cu", "ops/samples.h", ("samples",))


@case(SAMPLES)
def samples(size: int) -> Problem:
    g = torch.Generator().manual_seed(size)
    count = 37
    inputs = {
        "distances": torch.sort(torch.rand(size, 35, generator=g), 1).values,
        "weights": 0.01 + torch.rand(size, 35, generator=g),
        "jitter": torch.rand(size, count, generator=g),
    }

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        distances, weights, jitter = (x.to(dtype) for x in inputs.values())
        return {"merged": samples_reference(distances, weights, count, jitter)}

    merged = (size, 35 + count)
    return Problem(inputs, {"merged": merged}, {"rays": size, "samples": 35, "count": count}, reference)
