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
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int, weights: bool,
    background: Tensor | None = None, distances: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    rays, samples = sigma.shape
    outputs = _segments_fake(sigma, rgb, delta, segments, weights, background, distances)
    colors, opacity, kept, depth = outputs
    native.launch(
        "segments",
        {"sigma": sigma, "rgb": rgb, "delta": delta, "background": background, "distances": distances},
        {
            "colors": colors, "opacity": opacity, "weights": kept if weights else None,
            "depth": None if distances is None else depth,
        },
        rays=rays, samples=samples, segments=segments,
    )  # fmt: skip
    return outputs


def _segments_fake(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int, weights: bool,
    background: Tensor | None = None, distances: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    rays, samples = sigma.shape
    kept = sigma.new_empty(rays if weights else 0, samples)
    depth = sigma.new_empty(0 if distances is None else rays)
    return sigma.new_empty(rays, segments, 3), sigma.new_empty(rays), kept, depth


def _segments_backward(
    sigma: Tensor, rgb: Tensor, delta: Tensor, v_colors: Tensor, v_opacity: Tensor, to_delta: bool,
    background: Tensor | None = None, distances: Tensor | None = None, v_depth: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    rays, samples = sigma.shape
    outputs = _segments_backward_fake(sigma, rgb, delta, v_colors, v_opacity, to_delta, background, distances)
    v_sigma, v_rgb, v_delta, v_background, v_distances = outputs
    native.launch(
        "segments_backward",
        {
            "sigma": sigma, "rgb": rgb, "delta": delta, "v_colors": v_colors, "v_opacity": v_opacity,
            "background": background, "distances": distances, "v_depth": v_depth,
        },
        {
            "v_sigma": v_sigma, "v_rgb": v_rgb, "v_delta": v_delta if to_delta else None,
            "v_background": None if background is None else v_background,
            "v_distances": None if distances is None else v_distances,
        },
        rays=rays, samples=samples, segments=v_colors.shape[1],
    )  # fmt: skip
    return outputs


def _segments_backward_fake(
    sigma: Tensor, rgb: Tensor, delta: Tensor, v_colors: Tensor, v_opacity: Tensor, to_delta: bool,
    background: Tensor | None = None, distances: Tensor | None = None, v_depth: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    rays, samples = sigma.shape
    return (
        sigma.new_empty(rays, samples),
        rgb.new_empty(rays, samples, 3),
        delta.new_empty(rays if to_delta else 0, samples),
        sigma.new_empty(0 if background is None else rays, 3),
        sigma.new_empty(0 if distances is None else rays, samples),
    )


native.register(
    "segments(Tensor sigma, Tensor rgb, Tensor delta, int segments, bool weights,"
    " Tensor? background=None, Tensor? distances=None) -> (Tensor, Tensor, Tensor, Tensor)",
    _segments,
    _segments_fake,
)
native.register(
    "segments_backward(Tensor sigma, Tensor rgb, Tensor delta, Tensor v_colors, Tensor v_opacity,"
    " bool to_delta, Tensor? background=None, Tensor? distances=None, Tensor? v_depth=None)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _segments_backward,
    _segments_backward_fake,
)


class _Segments(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int, weights: bool,
        background: Tensor | None, distances: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        output = torch.ops.nldf.segments(sigma, rgb, delta, segments, weights, background, distances)
        ctx.save_for_backward(sigma, rgb, delta, background, distances)
        ctx.mark_non_differentiable(output[2])
        return output

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, v_colors: Tensor, v_opacity: Tensor, _: Tensor, v_depth: Tensor
    ) -> tuple[Any, ...]:
        sigma, rgb, delta, background, distances = ctx.saved_tensors
        to_delta = ctx.needs_input_grad[2]
        v_sigma, v_rgb, v_delta, v_background, v_distances = torch.ops.nldf.segments_backward(
            sigma, rgb, delta, v_colors, v_opacity, to_delta,
            background, distances, None if distances is None else v_depth,
        )  # fmt: skip
        return (
            v_sigma, v_rgb, v_delta if to_delta else None, None, None,
            v_background if ctx.needs_input_grad[5] else None,
            v_distances if ctx.needs_input_grad[6] else None,
        )  # fmt: skip


@overload
def composite_segments(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int = ...,
    *, background: Tensor | None = ..., distances: None = ..., return_weights: Literal[False] = ...,
    backend: str = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def composite_segments(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int = ...,
    *, background: Tensor | None = ..., distances: None = ..., return_weights: Literal[True],
    backend: str = ...,
) -> tuple[Tensor, Tensor, Tensor]: ...  # fmt: skip
@overload
def composite_segments(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int = ...,
    *, background: Tensor | None = ..., distances: Tensor, return_weights: bool = ..., backend: str = ...,
) -> tuple[Tensor, ...]: ...  # fmt: skip


def composite_segments(
    sigma: Tensor, rgb: Tensor, delta: Tensor, segments: int = 4,
    *, background: Tensor | None = None, distances: Tensor | None = None, return_weights: bool = False,
    backend: str = "native",
) -> tuple[Tensor, ...]:  # fmt: skip
    """Volume rendering of M equal groups of samples, NLDF eq. (5).

    With T_k = exp(-sum_{j<k} sigma_j delta_j) over ALL samples before k, sample k weighs
    w_k = T_k (1 - exp(-sigma_k delta_k)) and segment i's colour is the sum of w_k c_k over its samples, so
    that the M colours sum to the volume-rendered pixel, eq. (3). Gradients flow to sigma, rgb, delta,
    background and distances, and involve no division by 1 - alpha.

    Args:
        sigma: [R, S] density per unit of delta, not negative.
        rgb: [R, S, 3] colours.
        delta: [R, S] lengths of the samples; a last one of 1e10 makes any density opaque.
        segments: M, at least 1, a divisor of S.
        background: [R, 3] colours that take what is left of the ray, T_S, in the last segment: as a
            further sample of infinite length behind all others, so that the M colours sum to the pixel
            before its background (AD-NeRF section 3.3). The opacity stays that of the samples. Where the
            last sample itself is to be the background, give it delta = 0.
        distances: [R, S], t_k; asks for the depth.
        return_weights: also return the samples' weights, for importance resampling. No gradient flows
            through them.
        backend: "native" or "reference".

    Returns:
        colors [R, M, 3], opacity [R] = 1 - T_S in [0, 1]; then weights [R, S] where asked for; then, where
        distances are given, depth [R]: the expected distance sum_k w_k t_k. It is not divided by the
        opacity, and the background has no distance: depth / opacity is the mean over what was hit.

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
    if background is not None:
        check.tensor("background", background, ("R", 3))
    if distances is not None:
        check.tensor("distances", distances, ("R", "S"))
    check.integer("segments", segments, 1)
    if sigma.shape[1] % segments:
        raise ValueError(
            f"composite_segments: segments must divide the samples S={sigma.shape[1]}, got {segments}"
        )
    given = (background, distances)
    tracked = any(x is not None and x.requires_grad for x in (sigma, rgb, delta, *given))
    if not native.use_native("composite_segments", backend):
        colors, opacity, weights, depth = segments_reference(sigma, rgb, delta, segments, *given)
        weights = weights.detach()
    elif torch.is_grad_enabled() and tracked:
        colors, opacity, weights, depth = _Segments.apply(sigma, rgb, delta, segments, return_weights, *given)
    else:
        colors, opacity, weights, depth = torch.ops.nldf.segments(
            sigma, rgb, delta, segments, return_weights, *given
        )
    return (
        colors,
        opacity,
        *((weights,) if return_weights else ()),
        *(() if distances is None else (depth,)),
    )
