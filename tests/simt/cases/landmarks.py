"""Problems for the kernels of `landmarks`: two frames, more landmarks than a warp has lanes."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops.reference import landmarks_reference
from simt.problem import Problem, case, gradients, leaves
from simt.runner import Source

LANDMARKS = Source("csrc/ops/landmarks_cuda.cu", "ops/landmarks.h", ("landmarks", "landmarks_backward"))
_COUNT, _LEVELS, _BLOCK = 37, 3, 100
_NUMBERS = {"levels": _LEVELS, "depth_scale": 5.0, "cut": 4.3}


def _inputs(points: int) -> dict[str, Tensor]:
    """Draws until no point lies at a cut, where float32 and float64 may differ by a whole weight."""
    for seed in range(100):
        g = torch.Generator().manual_seed(1000 * seed + points)
        inputs = {
            "points": 0.4 * torch.rand(2, points, 3, generator=g) - 0.2,
            "landmarks": 0.2 * torch.rand(2, _COUNT, 3, generator=g) - 0.1,
            "rotations": torch.randn(_COUNT, 4, generator=g),
            "log_scales": (0.03 + 0.02 * torch.rand(_COUNT, 3, generator=g)).log(),
            "axis": torch.nn.functional.normalize(torch.randn(2, 3, generator=g), dim=1),
        }
        given = [x.double() for x in list(inputs.values())[:4]]
        near, far = (landmarks_reference(*given, cut=cut) > 0 for cut in (4.2999, 4.3001))
        if torch.equal(near, far):
            return inputs
    raise AssertionError("every seed has a point at a cut")


def _reference(given: list[Tensor]) -> Tensor:
    return landmarks_reference(*given, _LEVELS, _NUMBERS["depth_scale"], _NUMBERS["cut"])


def _numbers(size: int) -> dict[str, float]:
    return {"frames": 2, "per_frame": size, "count": _COUNT, **_NUMBERS}


@case(LANDMARKS)
def landmarks(size: int) -> Problem:
    inputs = _inputs(size)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        return {"features": _reference([x.to(dtype) for x in inputs.values()])}

    outputs = {"factors": (9, _COUNT), "features": (2, size, _COUNT * (1 + 2 * _LEVELS))}
    return Problem(inputs, outputs, _numbers(size), reference)


def _backward_outputs(size: int) -> dict[str, tuple[int, ...]]:
    return {
        "factors": (9, _COUNT), "partial": (2, -(-size // _BLOCK), 10, _COUNT), "v_points": (2, size, 3),
        "v_landmarks": (2, _COUNT, 3), "v_rotations": (_COUNT, 4), "v_log_scales": (_COUNT, 3),
    }  # fmt: skip


@case(LANDMARKS)
def landmarks_backward(size: int) -> Problem:
    inputs = _inputs(size)
    g = torch.Generator().manual_seed(1)
    cotangent = torch.randn(2, size, _COUNT * (1 + 2 * _LEVELS), generator=g)
    names = ("points", "landmarks", "rotations", "log_scales")

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        four = leaves(inputs, dtype, *names)
        v = gradients([_reference([*four, inputs["axis"].to(dtype)])], [cotangent], four)
        return {f"v_{name}": gradient for name, gradient in zip(names, v, strict=True)}

    numbers = _numbers(size) | {"block": _BLOCK}
    return Problem(inputs | {"v_features": cotangent}, _backward_outputs(size), numbers, reference)


@case(LANDMARKS, "landmarks")
def landmarks_weights(size: int) -> Problem:
    inputs = dict(list(_inputs(size).items())[:4])

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        return {"features": landmarks_reference(*(x.to(dtype) for x in inputs.values()))}

    outputs = {"axis": None, "factors": (9, _COUNT), "features": (2, size, _COUNT)}
    return Problem(inputs, outputs, _numbers(size), reference)


@case(LANDMARKS, "landmarks_backward")
def landmarks_weights_backward(size: int) -> Problem:
    inputs = dict(list(_inputs(size).items())[:4])
    cotangent = torch.randn(2, size, _COUNT, generator=torch.Generator().manual_seed(1))

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        four = leaves(inputs, dtype, *inputs)
        v = gradients([landmarks_reference(*four)], [cotangent], four)
        return {f"v_{name}": gradient for name, gradient in list(zip(inputs, v, strict=True))[1:]}

    outputs = _backward_outputs(size) | {"axis": None, "v_points": None}
    numbers = _numbers(size) | {"block": _BLOCK}
    return Problem(inputs | {"v_features": cotangent}, outputs, numbers, reference)
