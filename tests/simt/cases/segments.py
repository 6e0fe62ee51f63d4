"""Problems for the kernels of `segments`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nldf_engine.ops.reference import segments_reference
from simt.problem import Problem, case, gradients, leaves
from simt.runner import Source

SEGMENTS = Source("csrc/ops/segments_cuda.cu", "ops/segments.h", ("segments", "segments_backward"))
_SAMPLES, _SEGMENTS = 4 * 18, 4  # a segment is more than 16 lanes, and no multiple of them


def _segments_inputs(rays: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(rays)
    sigma = 30 * torch.rand(rays, _SAMPLES, generator=g)
    sigma *= torch.rand(rays, _SAMPLES, generator=g) > 0.3
    delta = 0.02 * torch.rand(rays, _SAMPLES, generator=g)
    return {"sigma": sigma, "rgb": torch.rand(rays, _SAMPLES, 3, generator=g), "delta": delta}


@case(SEGMENTS)
def segments(size: int) -> Problem:
    inputs = _segments_inputs(size)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        out = segments_reference(*(x.to(dtype) for x in inputs.values()), _SEGMENTS)
        return dict(zip(("colors", "opacity", "weights"), out[:3], strict=True))

    outputs = {"colors": (size, _SEGMENTS, 3), "opacity": (size,), "weights": (size, _SAMPLES)}
    outputs |= dict.fromkeys(("background", "distances", "depth"))
    return Problem(inputs, outputs, {"rays": size, "samples": _SAMPLES, "segments": _SEGMENTS}, reference)


_EXTRAS = ("background", "distances", "v_depth", "v_background", "v_distances")


@case(SEGMENTS)
def segments_backward(size: int) -> Problem:
    inputs = _segments_inputs(size)
    g = torch.Generator().manual_seed(1)
    v_colors, v_opacity = torch.randn(size, _SEGMENTS, 3, generator=g), torch.randn(size, generator=g)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        all_three = leaves(inputs, dtype, "sigma", "rgb", "delta")
        out = segments_reference(*all_three, _SEGMENTS)[:2]
        v = gradients(list(out), [v_colors, v_opacity], all_three)
        return dict(zip(("v_sigma", "v_rgb", "v_delta"), v, strict=True))

    shape = (size, _SAMPLES)
    return Problem(
        inputs | {"v_colors": v_colors, "v_opacity": v_opacity},
        {"v_sigma": shape, "v_rgb": (*shape, 3), "v_delta": shape, **dict.fromkeys(_EXTRAS)},
        {"rays": size, "samples": _SAMPLES, "segments": _SEGMENTS},
        reference,
    )


def _over_inputs(rays: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(rays + 1)
    distances = torch.sort(torch.rand(rays, _SAMPLES, generator=g), 1).values
    return _segments_inputs(rays) | {"background": torch.rand(rays, 3, generator=g), "distances": distances}


@case(SEGMENTS, "segments")
def segments_over(size: int) -> Problem:
    inputs = _over_inputs(size)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        sigma, rgb, delta, background, distances = (x.to(dtype) for x in inputs.values())
        out = segments_reference(sigma, rgb, delta, _SEGMENTS, background, distances)
        return {"colors": out[0], "opacity": out[1], "depth": out[3]}

    outputs = {"colors": (size, _SEGMENTS, 3), "opacity": (size,), "weights": None, "depth": (size,)}
    return Problem(inputs, outputs, {"rays": size, "samples": _SAMPLES, "segments": _SEGMENTS}, reference)


@case(SEGMENTS, "segments_backward")
def segments_over_backward(size: int) -> Problem:
    inputs = _over_inputs(size)
    g = torch.Generator().manual_seed(1)
    shapes = {"v_colors": (size, _SEGMENTS, 3), "v_opacity": (size,), "v_depth": (size,)}
    v = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        every = leaves(inputs, dtype, *inputs)
        sigma, rgb, delta, background, distances = every
        colors, opacity, _, depth = segments_reference(sigma, rgb, delta, _SEGMENTS, background, distances)
        out = gradients([colors, opacity, depth], list(v.values()), every)
        return {f"v_{name}": gradient for name, gradient in zip(inputs, out, strict=True)}

    outputs: dict[str, Any] = {f"v_{name}": tuple(tensor.shape) for name, tensor in inputs.items()}
    return Problem(inputs | v, outputs, {"rays": size, "samples": _SAMPLES, "segments": _SEGMENTS}, reference)
