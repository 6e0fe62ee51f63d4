"""Samples along rays to segment colours, NLDF eq. (5)."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import segments_reference


def _segments(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int, weights: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rays, samples = sigma.shape
    colors, opacity, kept = _segments_fake(sigma, rgb, delta, segments, weights)
    native.launch(
        "segments",
        {"sigma": sigma, "rgb": rgb, "delta": delta},
        {"colors": colors, "opacity": opacity, "weights": kept if weights else None},
        rays=rays, samples=samples, segments=segments,
    )  # fmt: skip
    return colors, opacity, kept


def _segments_fake(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int, weights: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rays, samples = sigma.shape
    kept = sigma.new_empty(rays if weights else 0, samples)
    return sigma.new_empty(rays, segments, 3), sigma.new_empty(rays), kept


def _segments_backward(
    sigma: Tensor, rgb: Tensor, delta: Tensor, v_colors: Tensor, v_opacity: Tensor, to_delta: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rays, samples = sigma.shape
    v_sigma, v_rgb, v_delta = _segments_backward_fake(sigma, rgb, delta, v_colors, v_opacity, to_delta)
    native.launch(
        "segments_backward",
        {"sigma": sigma, "rgb": rgb, "delta": delta, "v_colors": v_colors, "v_opacity": v_opacity},
        {"v_sigma": v_sigma, "v_rgb": v_rgb, "v_delta": v_delta if to_delta else None},
        rays=rays, samples=samples, segments=v_colors.shape[1],
    )  # fmt: skip
    return v_sigma, v_rgb, v_delta


def _segments_backward_fake(
    sigma: Tensor, rgb: Tensor, delta: Tensor, v_colors: Tensor, v_opacity: Tensor, to_delta: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rays, samples = sigma.shape
    v_delta = delta.new_empty(rays if to_delta else 0, samples)
    return sigma.new_empty(rays, samples), rgb.new_empty(rays, samples, 3), v_delta


native.register(
    "segments(Tensor sigma, Tensor rgb, Tensor delta, int segments, bool weights)"
    " -> (Tensor, Tensor, Tensor)",
    _segments,
    _segments_fake,
)
native.register(
    "segments_backward(Tensor sigma, Tensor rgb, Tensor delta, Tensor v_colors, Tensor v_opacity,"
    " bool to_delta) -> (Tensor, Tensor, Tensor)",
    _segments_backward,
    _segments_backward_fake,
)


class _Segments(torch.autograd.Function):
    @staticmethod
    def forward(
        sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int, weights: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.nldf.segments(sigma, rgb, delta, segments, weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.mark_non_differentiable(output[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_colors: Tensor, v_opacity: Tensor, _: Tensor) -> tuple[Any, ...]:
        to_delta = ctx.needs_input_grad[2]
        v_sigma, v_rgb, v_delta = torch.ops.nldf.segments_backward(
            *ctx.saved_tensors, v_colors, v_opacity, to_delta
        )
        return v_sigma, v_rgb, v_delta if to_delta else None, None, None


@overload
def composite_segments(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int = ...,
    *, return_weights: Literal[False] = ..., backend: str = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def composite_segments(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int = ...,
    *, return_weights: Literal[True], backend: str = ...,
) -> tuple[Tensor, Tensor, Tensor]: ...  # fmt: skip


def composite_segments(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int = 4,
    *, return_weights: bool = False, backend: str = "native",
) -> tuple[Tensor, ...]:  # fmt: skip
    """Volume rendering of M equal groups of samples, NLDF eq. (5).

    With T_k = exp(-sum_{j<k} sigma_j delta_j) over ALL samples before k, sample k weighs
    w_k = T_k (1 - exp(-sigma_k delta_k)) and segment i's colour is the sum of w_k c_k over its samples, so
    that the M colours sum to the volume-rendered pixel, eq. (3). Gradients flow to sigma, rgb and delta
    and involve no division by 1 - alpha.

    Args:
        sigma: [R, S] density per unit of delta, not negative.
        rgb: [R, S, 3] colours.
        delta: [R, S] lengths of the samples; a last one of 1e10 makes any density opaque.
        segments: M, at least 1, a divisor of S.
        return_weights: also return the samples' weights, for importance resampling. No gradient flows
            through them.
        backend: "native" or "reference".

    Returns:
        colors [R, M, 3], opacity [R] = 1 - T_S in [0, 1], and weights [R, S] where asked for.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> sigma, rgb, delta = torch.full((1, 8), 0.5), torch.ones(1, 8, 3), torch.full((1, 8), 0.25)
        >>> colors, opacity = composite_segments(sigma, rgb, delta, segments=2)
        >>> [round(float(red), 4) for red in colors[0, :, 0]], round(float(opacity[0]), 4)
        ([0.3935, 0.2387], 0.6321)
    """
    check = Checker("composite_segments")
    check.tensor("sigma", sigma, ("R", "S"))
    check.tensor("rgb", rgb, ("R", "S", 3))
    check.tensor("delta", delta, ("R", "S"))
    check.integer("segments", segments, 1)
    if sigma.shape[1] % segments:
        raise ValueError(
            f"composite_segments: segments must divide the samples S={sigma.shape[1]}, got {segments}"
        )
    if not native.use_native("composite_segments", backend):
        colors, opacity, weights = segments_reference(sigma, rgb, delta, segments)
        weights = weights.detach()
    elif torch.is_grad_enabled() and (sigma.requires_grad or rgb.requires_grad or delta.requires_grad):
        colors, opacity, weights = _Segments.apply(sigma, rgb, delta, segments, return_weights)
    else:
        colors, opacity, weights = torch.ops.nldf.segments(sigma, rgb, delta, segments, return_weights)
    return (colors, opacity, weights) if return_weights else (colors, opacity)
