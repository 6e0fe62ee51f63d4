"""Problems for the kernels of `references`: three maps, places inside and outside of them, and behind."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops.reference import references_reference
from simt.problem import Problem, case, gradients, leaves
from simt.runner import Source

REFERENCES = Source(
    "csrc/ops/references_cuda.cu", "ops/references.h", ("references", "references_backward")
)  # fmt: skip
_COUNT, _HEIGHT, _WIDTH = 3, 5, 7


def _inputs(size: int, channels: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(size)
    projections = torch.tensor([[8.0, 0, 3, 2.1], [0, 8, 2, 1.4], [0, 0, 1, 0.7]]).repeat(_COUNT, 1, 1)
    projections += 0.1 * torch.randn(_COUNT, 3, 4, generator=g)
    points = 0.5 * torch.rand(size, 3, generator=g) - 0.25
    points[::5, 2] = -2  # behind every camera
    return {
        "points": points,
        "projections": projections,
        "maps": torch.randn(_COUNT, _HEIGHT, _WIDTH, channels, generator=g),
        "offsets": torch.randn(size, _COUNT, 2, generator=g),
    }


def _numbers(size: int, channels: int, nearest: bool) -> dict[str, float]:
    return {
        "count": size, "references": _COUNT, "height": _HEIGHT, "width": _WIDTH, "channels": channels,
        "nearest": int(nearest),
    }  # fmt: skip


def _forward(size: int, channels: int, nearest: bool) -> Problem:
    inputs = _inputs(size, channels)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        given = [x.to(dtype) for x in inputs.values()]
        return dict(zip(("features", "places"), references_reference(*given, nearest), strict=True))

    outputs = {"features": (size, _COUNT, channels), "places": (size, _COUNT, 2)}
    return Problem(inputs, outputs, _numbers(size, channels, nearest), reference)


def _backward(size: int, channels: int, nearest: bool) -> Problem:
    inputs = _inputs(size, channels)
    g = torch.Generator().manual_seed(1)
    cotangents = {
        "v_features": torch.randn(size, _COUNT, channels, generator=g),
        "v_places": torch.randn(size, _COUNT, 2, generator=g),
    }
    names = ("points", "maps", "offsets")

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        points, maps, offsets = three = leaves(inputs, dtype, *names)
        outputs = references_reference(points, inputs["projections"].to(dtype), maps, offsets, nearest)
        v = gradients(list(outputs), list(cotangents.values()), three)
        return {f"v_{name}": gradient for name, gradient in zip(names, v, strict=True)}

    given = {name: inputs[name] for name in ("points", "projections", "maps")}
    given["places"] = references_reference(*inputs.values(), nearest)[1]
    outputs = {
        "v_points": (size, 3),
        "v_maps": torch.zeros(_COUNT, _HEIGHT, _WIDTH, channels),
        "v_offsets": (size, _COUNT, 2),
    }
    return Problem(given | cotangents, outputs, _numbers(size, channels, nearest), reference)


@case(REFERENCES)
def references(size: int) -> Problem:
    return _forward(size, 12, False)


@case(REFERENCES, "references")
def references_odd(size: int) -> Problem:
    return _forward(size, 5, False)


@case(REFERENCES, "references")
def references_nearest(size: int) -> Problem:
    return _forward(size, 6, True)


@case(REFERENCES)
def references_backward(size: int) -> Problem:
    return _backward(size, 12, False)


@case(REFERENCES, "references_backward")
def references_backward_odd(size: int) -> Problem:
    return _backward(size, 37, False)


@case(REFERENCES, "references_backward")
def references_backward_nearest(size: int) -> Problem:
    return _backward(size, 6, True)
