"""Problems for the kernels of `segments`: colours, and features of other numbers of channels (rows)."""

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
    return {"sigma": sigma, "features": torch.rand(rays, _SAMPLES, 3, generator=g), "delta": delta}


@case(SEGMENTS)
def segments(size: int) -> Problem:
    inputs = _segments_inputs(size)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        out = segments_reference(*(x.to(dtype) for x in inputs.values()), _SEGMENTS)
        return dict(zip(("composited", "opacity", "weights"), out[:3], strict=True))

    outputs = {"composited": (size, _SEGMENTS, 3), "opacity": (size,), "weights": (size, _SAMPLES)}
    outputs |= dict.fromkeys(("background", "distances", "depth"))
    return Problem(
        inputs, outputs, {"rays": size, "samples": _SAMPLES, "segments": _SEGMENTS, "channels": 3}, reference
    )


_EXTRAS = ("background", "distances", "v_depth", "v_background", "v_distances")


@case(SEGMENTS)
def segments_backward(size: int) -> Problem:
    inputs = _segments_inputs(size)
    g = torch.Generator().manual_seed(1)
    v_colors, v_opacity = torch.randn(size, _SEGMENTS, 3, generator=g), torch.randn(size, generator=g)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        all_three = leaves(inputs, dtype, "sigma", "features", "delta")
        out = segments_reference(*all_three, _SEGMENTS)[:2]
        v = gradients(list(out), [v_colors, v_opacity], all_three)
        return dict(zip(("v_sigma", "v_features", "v_delta"), v, strict=True))

    shape = (size, _SAMPLES)
    return Problem(
        inputs | {"v_composited": v_colors, "v_opacity": v_opacity},
        {"v_sigma": shape, "v_features": (*shape, 3), "v_delta": shape, **dict.fromkeys(_EXTRAS)},
        {"rays": size, "samples": _SAMPLES, "segments": _SEGMENTS, "channels": 3},
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
        return {"composited": out[0], "opacity": out[1], "depth": out[3]}

    outputs = {"composited": (size, _SEGMENTS, 3), "opacity": (size,), "weights": None, "depth": (size,)}
    return Problem(
        inputs, outputs, {"rays": size, "samples": _SAMPLES, "segments": _SEGMENTS, "channels": 3}, reference
    )


@case(SEGMENTS, "segments_backward")
def segments_over_backward(size: int) -> Problem:
    inputs = _over_inputs(size)
    g = torch.Generator().manual_seed(1)
    shapes = {"v_composited": (size, _SEGMENTS, 3), "v_opacity": (size,), "v_depth": (size,)}
    v = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        every = leaves(inputs, dtype, *inputs)
        sigma, rgb, delta, background, distances = every
        colors, opacity, _, depth = segments_reference(sigma, rgb, delta, _SEGMENTS, background, distances)
        out = gradients([colors, opacity, depth], list(v.values()), every)
        return {f"v_{name}": gradient for name, gradient in zip(inputs, out, strict=True)}

    outputs: dict[str, Any] = {f"v_{name}": tuple(tensor.shape) for name, tensor in inputs.items()}
    return Problem(
        inputs | v,
        outputs,
        {"rays": size, "samples": _SAMPLES, "segments": _SEGMENTS, "channels": 3},
        reference,
    )


# Features by the size of the problem: of one channel, of a few, of whole warps and of pieces of them.
_CHANNELS = {0: 48, 1: 256, 64: 64, 127: 5, 128: 48, 129: 70, 255: 1}
_ROWS, _PARTS = 2 * 36, 2  # a segment is more than a warp's 32 samples, and no multiple of them


def _rows_inputs(rays: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(rays + 2)
    channels, shape = _CHANNELS[rays], (rays, _ROWS)
    sigma = 30 * torch.rand(shape, generator=g) * (torch.rand(shape, generator=g) > 0.3)
    return {
        "sigma": sigma,
        "features": torch.rand(*shape, channels, generator=g),
        "delta": 0.02 * torch.rand(shape, generator=g),
        "background": torch.rand(rays, channels, generator=g),
        "distances": torch.sort(torch.rand(shape, generator=g), 1).values,
    }


def _rows_numbers(rays: int) -> dict[str, float]:
    return {"rays": rays, "samples": _ROWS, "segments": _PARTS, "channels": _CHANNELS[rays]}


@case(SEGMENTS, "segments")
def segments_rows(size: int) -> Problem:
    inputs = _rows_inputs(size)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        sigma, features, delta, *over = (x.to(dtype) for x in inputs.values())
        out = segments_reference(sigma, features, delta, _PARTS, *over)
        return dict(zip(("composited", "opacity", "weights", "depth"), out, strict=True))

    outputs = {"composited": (size, _PARTS, _CHANNELS[size]), "opacity": (size,), "weights": (size, _ROWS)}
    return Problem(inputs, outputs | {"depth": (size,)}, _rows_numbers(size), reference)


@case(SEGMENTS, "segments_backward")
def segments_rows_backward(size: int) -> Problem:
    inputs = _rows_inputs(size)
    g = torch.Generator().manual_seed(1)
    shapes = {"v_composited": (size, _PARTS, _CHANNELS[size]), "v_opacity": (size,), "v_depth": (size,)}
    v = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        every = leaves(inputs, dtype, *inputs)
        sigma, features, delta, *over = every
        composited, opacity, _, depth = segments_reference(sigma, features, delta, _PARTS, *over)
        out = gradients([composited, opacity, depth], list(v.values()), every)
        return {f"v_{name}": gradient for name, gradient in zip(inputs, out, strict=True)}

    outputs: dict[str, Any] = {f"v_{name}": tuple(tensor.shape) for name, tensor in inputs.items()}
    return Problem(inputs | v, outputs, _rows_numbers(size), reference)


@case(SEGMENTS, "segments_backward")
def segments_rows_alone_backward(size: int) -> Problem:
    inputs = {name: tensor for name, tensor in _rows_inputs(size).items() if name not in _EXTRAS}
    g = torch.Generator().manual_seed(1)
    v_composited = torch.randn(size, _PARTS, _CHANNELS[size], generator=g)
    v_opacity = torch.randn(size, generator=g)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        three = leaves(inputs, dtype, *inputs)
        v = gradients(list(segments_reference(*three, _PARTS)[:2]), [v_composited, v_opacity], three)
        return {"v_sigma": v[0], "v_features": v[1]}

    outputs: dict[str, Any] = {"v_sigma": (size, _ROWS), "v_features": (size, _ROWS, _CHANNELS[size])}
    return Problem(
        inputs | {"v_composited": v_composited, "v_opacity": v_opacity},
        outputs | dict.fromkeys(("v_delta", *_EXTRAS)),
        _rows_numbers(size),
        reference,
    )
