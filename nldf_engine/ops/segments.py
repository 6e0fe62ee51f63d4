"""Samples along rays to segment colours, NLDF eq. (5), or to features of any number of channels."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import segments_reference


def _present(outputs: dict[str, Tensor | None]) -> list[Tensor]:
    return [tensor for tensor in outputs.values() if tensor is not None]


def _sizes(features: Tensor) -> dict[str, Any]:
    rays, samples, channels = features.shape
    return {"rays": rays, "samples": samples, "channels": channels}


def _outputs(
    features: Tensor, segments: int, weights: bool, distances: Tensor | None
) -> dict[str, Tensor | None]:
    rays, samples, channels = features.shape
    return {
        "composited": features.new_empty(rays, segments, channels),
        "opacity": features.new_empty(rays),
        "weights": features.new_empty(rays, samples) if weights else None,
        "depth": None if distances is None else features.new_empty(rays),
    }


def _segments(
    sigma: Tensor, features: Tensor, delta: Tensor, segments: int, weights: bool,
    background: Tensor | None = None, distances: Tensor | None = None,
) -> list[Tensor]:  # fmt: skip
    outputs = _outputs(features, segments, weights, distances)
    native.launch(
        "segments",
        {
            "sigma": sigma, "features": features, "delta": delta,
            "background": background, "distances": distances,
        },
        outputs,
        segments=segments, **_sizes(features),
    )  # fmt: skip
    return _present(outputs)


def _segments_fake(
    sigma: Tensor, features: Tensor, delta: Tensor, segments: int, weights: bool,
    background: Tensor | None = None, distances: Tensor | None = None,
) -> list[Tensor]:  # fmt: skip
    return _present(_outputs(features, segments, weights, distances))


def _gradients(
    features: Tensor, to_delta: bool, background: Tensor | None, distances: Tensor | None
) -> dict[str, Tensor | None]:
    rays, samples, channels = features.shape
    return {
        "v_sigma": features.new_empty(rays, samples),
        "v_features": features.new_empty(rays, samples, channels),
        "v_delta": features.new_empty(rays, samples) if to_delta else None,
        "v_background": None if background is None else features.new_empty(rays, channels),
        "v_distances": None if distances is None else features.new_empty(rays, samples),
    }


def _segments_backward(
    sigma: Tensor, features: Tensor, delta: Tensor, v_composited: Tensor, v_opacity: Tensor, to_delta: bool,
    background: Tensor | None = None, distances: Tensor | None = None, v_depth: Tensor | None = None,
) -> list[Tensor]:  # fmt: skip
    gradients = _gradients(features, to_delta, background, distances)
    native.launch(
        "segments_backward",
        {
            "sigma": sigma, "features": features, "delta": delta,
            "v_composited": v_composited, "v_opacity": v_opacity,
            "background": background, "distances": distances, "v_depth": v_depth,
        },
        gradients,
        segments=v_composited.shape[1], **_sizes(features),
    )  # fmt: skip
    return _present(gradients)


def _segments_backward_fake(
    sigma: Tensor, features: Tensor, delta: Tensor, v_composited: Tensor, v_opacity: Tensor, to_delta: bool,
    background: Tensor | None = None, distances: Tensor | None = None, v_depth: Tensor | None = None,
) -> list[Tensor]:  # fmt: skip
    return _present(_gradients(features, to_delta, background, distances))


# Both return the requested outputs alone, in the order of `_outputs` and `_gradients`: an empty tensor costs
# as much time to make as any other, and with few rays that is what counts.
_call_segments = native.register(
    "segments(Tensor sigma, Tensor features, Tensor delta, int segments, bool weights,"
    " Tensor? background=None, Tensor? distances=None) -> Tensor[]",
    _segments,
    _segments_fake,
)
_call_segments_backward = native.register(
    "segments_backward(Tensor sigma, Tensor features, Tensor delta, Tensor v_composited, Tensor v_opacity,"
    " bool to_delta, Tensor? background=None, Tensor? distances=None, Tensor? v_depth=None) -> Tensor[]",
    _segments_backward,
    _segments_backward_fake,
)


class _Segments(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sigma: Tensor, features: Tensor, delta: Tensor, segments: int, weights: bool,
        background: Tensor | None, distances: Tensor | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        output = _call_segments(sigma, features, delta, segments, weights, background, distances)
        ctx.save_for_backward(sigma, features, delta, background, distances)
        ctx.set_materialize_grads(False)
        ctx.segments = segments
        if weights:
            ctx.mark_non_differentiable(output[2])
        return tuple(output)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, v_composited: Tensor | None, v_opacity: Tensor | None, *more: Any
    ) -> tuple[Any, ...]:
        sigma, features, delta, background, distances = ctx.saved_tensors
        to_delta = ctx.needs_input_grad[2]
        rays, v_depth = len(sigma), None if distances is None else more[-1]
        if v_composited is None:
            v_composited = features.new_zeros(rays, ctx.segments, features.shape[2])
        if v_opacity is None:
            v_opacity = sigma.new_zeros(rays)
        if distances is not None and v_depth is None:
            v_depth = sigma.new_zeros(rays)
        gradients = iter(
            _call_segments_backward(
                sigma, features, delta, v_composited, v_opacity, to_delta, background, distances, v_depth
            )
        )
        v_sigma, v_features = next(gradients), next(gradients)
        v_delta = next(gradients) if to_delta else None
        v_background = None if background is None else next(gradients)
        v_distances = None if distances is None else next(gradients)
        return v_sigma, v_features, v_delta, None, None, v_background, v_distances


@overload
def composite_segments(
    sigma: Tensor, features: Tensor, delta: Tensor, segments: int = ...,
    *, background: Tensor | None = ..., distances: None = ..., return_weights: Literal[False] = ...,
    backend: str = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def composite_segments(
    sigma: Tensor, features: Tensor, delta: Tensor, segments: int = ...,
    *, background: Tensor | None = ..., distances: None = ..., return_weights: Literal[True],
    backend: str = ...,
) -> tuple[Tensor, Tensor, Tensor]: ...  # fmt: skip
@overload
def composite_segments(
    sigma: Tensor, features: Tensor, delta: Tensor, segments: int = ...,
    *, background: Tensor | None = ..., distances: Tensor, return_weights: bool = ..., backend: str = ...,
) -> tuple[Tensor, ...]: ...  # fmt: skip


def composite_segments(
    sigma: Tensor, features: Tensor, delta: Tensor, segments: int = 4,
    *, background: Tensor | None = None, distances: Tensor | None = None, return_weights: bool = False,
    backend: str = "native",
) -> tuple[Tensor, ...]:  # fmt: skip
    """Volume rendering of M equal groups of samples, NLDF eq. (5), of colours or of any other features.

    With T_k = exp(-sum_{j<k} sigma_j delta_j) over ALL samples before k, sample k weighs
    w_k = T_k (1 - exp(-sigma_k delta_k)) and segment i's result is the sum of w_k f_k over its samples, so
    that the M results sum to the volume-rendered pixel, eq. (3). Gradients flow to sigma, features, delta,
    background and distances, and involve no division by 1 - alpha.

    The features f_k have C channels: C = 3 are colours (a kernel of its own); a low-resolution feature map
    for a 2D neural renderer, as HeadNeRF has it, is one segment of C = 64 or 256 over the map's pixels.

    Args:
        sigma: [R, S] density per unit of delta, not negative.
        features: [R, S, C] colours or features.
        delta: [R, S] lengths of the samples; a last one of 1e10 makes any density opaque.
        segments: M, at least 1, a divisor of S.
        background: [R, C] features that take what is left of the ray, T_S, in the last segment: as a
            further sample of infinite length behind all others, so that the M results sum to the pixel
            before its background (AD-NeRF section 3.3). The opacity stays that of the samples. Where the
            last sample itself is to be the background, give it delta = 0.
        distances: [R, S], t_k; where given, the depth is returned.
        return_weights: also return the samples' weights, for importance resampling. No gradient flows
            through them.
        backend: "native" or "reference".

    Returns:
        composited [R, M, C], opacity [R] = 1 - T_S in [0, 1]; then weights [R, S] where requested; then,
        where distances are given, depth [R]: the expected distance sum_k w_k t_k. It is not divided by the
        opacity, and the background has no distance: depth / opacity is the mean over what was hit.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> sigma, rgb, delta = torch.full((1, 8), 0.5), torch.ones(1, 8, 3), torch.full((1, 8), 0.25)
        >>> colors, opacity = composite_segments(sigma, rgb, delta, segments=2)
        >>> [round(float(red), 4) for red in colors[0, :, 0]], round(float(opacity[0]), 4)
        ([0.3935, 0.2387], 0.6321)
        >>> feature_map, _ = composite_segments(sigma, torch.rand(1, 8, 256), delta, segments=1)
        >>> feature_map.shape
        torch.Size([1, 1, 256])
    """
    check = Checker("composite_segments")
    check.tensor("sigma", sigma, ("R", "S"))
    check.tensor("features", features, ("R", "S", "C"))
    check.tensor("delta", delta, ("R", "S"))
    if background is not None:
        check.tensor("background", background, ("R", "C"))
    if distances is not None:
        check.tensor("distances", distances, ("R", "S"))
    check.integer("segments", segments, 1)
    if sigma.shape[1] % segments:
        raise ValueError(
            f"composite_segments: segments must divide the samples S={sigma.shape[1]}, got {segments}"
        )
    given = (background, distances)
    if not native.use_native("composite_segments", backend):
        composited, opacity, weights, depth = segments_reference(sigma, features, delta, segments, *given)
        more = (weights.detach(),) if return_weights else ()
        return composited, opacity, *more, *(() if distances is None else (depth,))
    tracked = sigma.requires_grad or features.requires_grad or delta.requires_grad
    tracked = tracked or any(x is not None and x.requires_grad for x in given)
    if tracked and torch.is_grad_enabled():
        return tuple(_Segments.apply(sigma, features, delta, segments, return_weights, *given))
    return tuple(_call_segments(sigma, features, delta, segments, return_weights, *given))
