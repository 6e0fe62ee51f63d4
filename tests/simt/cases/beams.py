"""Problems for the kernels of `beams`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nldf_engine.ops.reference import beams_reference
from simt.problem import Problem, case, gradients, leaves
from simt.runner import Source

BEAMS = Source("csrc/ops/beams_cuda.cu", "ops/beams.h", ("beams", "beams_half", "beams_backward"))
_BEAM = {"near": 0.4, "far": 1.3, "points": 11, "frequencies": 3, "scale": 2.0}


def _beams_inputs(rays: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(rays)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=g), dim=-1)
    return {"origins": 0.5 * torch.randn(rays, 3, generator=g), "directions": directions}


@case(BEAMS)
def beams(size: int) -> Problem:
    inputs = _beams_inputs(size)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        return {"encoded": beams_reference(*(x.to(dtype) for x in inputs.values()), **_BEAM)}

    return Problem(inputs, {"encoded": (size, 33 * 7)}, {"rays": size, **_BEAM, "columns": 33 * 7}, reference)


@case(BEAMS)
def beams_half(size: int) -> Problem:
    inputs = _beams_inputs(size)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        return {"encoded": beams_reference(*(x.to(dtype) for x in inputs.values()), **_BEAM, pad_to=16)}

    numbers = {"rays": size, **_BEAM, "columns": 240}
    return Problem(inputs, {"encoded": (size, 240)}, numbers, reference, slack=6e-4, dtype=np.float16)


@case(BEAMS)
def beams_backward(size: int) -> Problem:
    inputs = _beams_inputs(size)
    cotangent = torch.randn(size, 33 * 7, generator=torch.Generator().manual_seed(1))

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        both = leaves(inputs, dtype, "origins", "directions")
        v = gradients([beams_reference(*both, **_BEAM)], [cotangent], both)
        return {"v_origins": v[0], "v_directions": v[1]}

    outputs = {"v_origins": (size, 3), "v_directions": (size, 3)}
    return Problem(inputs | {"v_encoded": cotangent}, outputs, {"rays": size, **_BEAM}, reference)
