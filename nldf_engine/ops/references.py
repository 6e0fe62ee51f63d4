"""Points to features of reference pictures: project, move by an offset, look up (DFRF, eq. (1) and (4))."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import references_reference

_MOST_SIDE = 1 << 16


def _sizes(points: Tensor, maps: Tensor, nearest: bool) -> dict[str, int]:
    references, height, width, channels = maps.shape
    return {
        "count": points.shape[0], "references": references, "height": height, "width": width,
        "channels": channels, "nearest": int(nearest),
    }  # fmt: skip


def _references(
    points: Tensor, projections: Tensor, maps: Tensor, offsets: Tensor | None, nearest: bool
) -> tuple[Tensor, Tensor]:
    features, places = _references_fake(points, projections, maps, offsets, nearest)
    native.launch(
        "references",
        {"points": points, "projections": projections, "maps": maps, "offsets": offsets},
        {"features": features, "places": places},
        **_sizes(points, maps, nearest),
    )
    return features, places


def _references_fake(
    points: Tensor, projections: Tensor, maps: Tensor, offsets: Tensor | None, nearest: bool
) -> tuple[Tensor, Tensor]:
    count, references = points.shape[0], maps.shape[0]
    features = points.new_empty(count, references, maps.shape[3])
    return features, points.new_empty(count, references, 2)


def _references_backward(
    points: Tensor, projections: Tensor, maps: Tensor, places: Tensor, v_features: Tensor,
    v_places: Tensor | None, nearest: bool, to_points: bool, to_maps: bool, to_offsets: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    v_points, v_maps, v_offsets = _references_backward_fake(
        points, projections, maps, places, v_features, v_places, nearest, to_points, to_maps, to_offsets
    )
    native.launch(
        "references_backward",
        {
            "points": points, "projections": projections, "maps": maps, "places": places,
            "v_features": v_features, "v_places": v_places,
        },
        {
            "v_points": v_points if to_points else None,
            "v_maps": v_maps.zero_() if to_maps else None,
            "v_offsets": v_offsets if to_offsets else None,
        },
        **_sizes(points, maps, nearest),
    )  # fmt: skip
    return v_points, v_maps, v_offsets


def _references_backward_fake(
    points: Tensor, projections: Tensor, maps: Tensor, places: Tensor, v_features: Tensor,
    v_places: Tensor | None, nearest: bool, to_points: bool, to_maps: bool, to_offsets: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return (
        points.new_empty(points.shape if to_points else 0),
        points.new_empty(maps.shape if to_maps else 0),
        points.new_empty(places.shape if to_offsets else 0),
    )


_call_references = native.register(
    "references(Tensor points, Tensor projections, Tensor maps, Tensor? offsets, bool nearest)"
    " -> (Tensor, Tensor)",
    _references,
    _references_fake,
)
# Gradients that aren't wanted are empty.
_call_references_backward = native.register(
    "references_backward(Tensor points, Tensor projections, Tensor maps, Tensor places, Tensor v_features,"
    " Tensor? v_places, bool nearest, bool to_points, bool to_maps, bool to_offsets)"
    " -> (Tensor, Tensor, Tensor)",
    _references_backward,
    _references_backward_fake,
)


class _References(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, projections: Tensor, maps: Tensor, offsets: Tensor | None, nearest: bool
    ) -> tuple[Tensor, Tensor]:
        features, places = _call_references(points, projections, maps, offsets, nearest)
        ctx.save_for_backward(points, projections, maps, places)
        ctx.nearest = nearest
        ctx.set_materialize_grads(False)  # places are seldom looked at
        return features, places

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_features: Tensor | None, v_places: Tensor | None) -> tuple[Any, ...]:
        points, projections, maps, places = ctx.saved_tensors
        if v_features is None:
            v_features = points.new_zeros(*places.shape[:2], maps.shape[3])
        wanted = [ctx.needs_input_grad[i] for i in (0, 2, 3)]
        v = _call_references_backward(
            points, projections, maps, places, v_features, v_places, ctx.nearest, *wanted
        )
        v_points, v_maps, v_offsets = (
            gradient if want else None for gradient, want in zip(v, wanted, strict=True)
        )
        return v_points, None, v_maps, v_offsets, None


def gather_references(
    points: Tensor, projections: Tensor, maps: Tensor, offsets: Tensor | None = None,
    *, nearest: bool = False, backend: str = "native",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Looks points up in the feature maps of reference pictures, DFRF sections 3.2 and 3.3.

    With (a, b, w) = M_r [x; 1], the place of point x in map r is, eq. (1) and (4),

        place = (a / w, b / w) + offset,

    in pixels of the map: pixel i's centre is at i + 0.5. The feature there is interpolated bilinearly between
    the four pixels around it; with `nearest` it is that of the pixel which the place lies in. No read leaves
    the map: places outside are clamped to the centres of its outermost pixels, NaN ones to the first pixel. A
    point at or behind a camera, w <= 1e-6, projects to (0, 0), the map's corner; its offset moves it from
    there.

    Interpolation is linear in the maps, and its weights sum to 1: a linear layer in front of it, bias
    included, gives the same as one behind it. So a layer that every looked-up feature would go through can be
    applied once to each pixel of fixed references instead, whatever C becomes by that.

    Gradients flow to points, maps and offsets. That of a feature with respect to its place is zero where the
    place is clamped; exactly on a pixel's centre it is that towards the next pixel (towards the last one in
    the last). A point behind a camera gets none. On the CPU gradients are the same to the bit for any number
    of threads; on CUDA that of the maps is summed by atomic additions, in any order.

    Args:
        points: [P, 3] in head space, metres; float32 (or float64 on the CPU), like all others.
        projections: [R, 3, 4] M, from head space to pixels of the map times depth: intrinsics at the map's
            size times the inverse of the pose. They must not require a gradient.
        maps: [R, H, W, C] features, channels last; H and W of 1 to 65536, any R and C, 0 included.
        offsets: [P, R, 2] pixels that a point's place is moved by; None moves none.
        nearest: the pixel's own feature instead of the interpolated one; then no gradient flows from
            features to places.
        backend: "native" or "reference".

    Returns:
        features [P, R, C] and places [P, R, 2] in pixels, as they are before they are clamped.

    Raises:
        TypeError, ValueError: an argument doesn't fit; `projections` requires a gradient.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> camera = torch.tensor([[[2.0, 0.0, 1.0, 0.0], [0.0, 2.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]]])
        >>> points = torch.tensor([[0.0, 0.0, 1.0], [0.1, -0.2, 0.5]])  # metres
        >>> pixels = torch.tensor([[[[10.0], [20.0]], [[30.0], [40.0]]]])  # 2x2 pixels of one channel
        >>> features, places = gather_references(points, camera, pixels)
        >>> places.flatten(1).tolist(), features.flatten().tolist()
        ([[1.0, 1.0], [1.399999976158142, 0.19999998807907104]], [25.0, 19.0])
    """
    check = Checker("gather_references")
    check.tensor("points", points, ("P", 3))
    check.tensor("projections", projections, ("R", 3, 4))
    check.tensor("maps", maps, ("R", "H", "W", "C"))
    if offsets is not None:
        check.tensor("offsets", offsets, ("P", "R", 2))
    if projections.requires_grad:
        raise ValueError(
            "gather_references: projections must not require a gradient, none flows to them; detach() them"
        )
    for side in ("H", "W"):
        check.integer(f"maps' {side}", check.sizes[side], 1, _MOST_SIDE)
    if not isinstance(nearest, bool):
        raise TypeError(f"gather_references: nearest must be a bool, got {type(nearest).__name__}")
    if not native.use_native("gather_references", backend):
        return references_reference(points, projections, maps, offsets, nearest)
    given = (points, maps, offsets)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in given):
        return _References.apply(points, projections, maps, offsets, nearest)
    return _call_references(points, projections, maps, offsets, nearest)
