"""Points to features of reference pictures: project, move by an offset, look up (DFRF, section 3.2)."""

from __future__ import annotations

from torch import Tensor

from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import references_reference


def gather_references(
    points: Tensor, projections: Tensor, maps: Tensor, offsets: Tensor | None = None,
    *, nearest: bool = False, backend: str = "native",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Looks points up in the feature maps of reference pictures, DFRF section 3.2.

    With (a, b, w) = M_r [x; 1], the place of point x in map r is

        place = (a / w, b / w) + offset,

    in pixels of the map: pixel i's centre is at i + 0.5. The feature there is interpolated between the four
    pixels around, or that of the pixel it lies in where `nearest` is set. Places outside of the map are
    clamped to the centres of its outermost pixels, where their gradient is zero, and so are NaN ones, to the
    first pixel. A point at or behind a camera, w <= 1e-6, projects to (0, 0), the map's corner, without a
    gradient to the point.

    Interpolation is linear in the maps: a linear layer behind it gives the same as in front of it (with its
    bias, as the four weights sum to 1). So a layer that is to be applied to every looked-up feature can be
    applied once to every pixel of fixed references instead, whatever C becomes.

    Gradients flow to points, maps and offsets.

    Args:
        points: [P, 3] in head space, metres; float32 (or float64 on the CPU), like all others.
        projections: [R, 3, 4] from head space to pixels of the map times depth; must not require a gradient.
        maps: [R, H, W, C] features, channels last; any C.
        offsets: [P, R, 2] pixels that a point's place is moved by; None moves none.
        nearest: the pixel's own feature instead of the interpolated one; then no gradient flows from
            features to places.
        backend: "native" or "reference".

    Returns:
        features [P, R, C] and places [P, R, 2] in pixels, as they are before they are clamped.

    Raises:
        TypeError, ValueError: an argument doesn't fit; `projections` requires a gradient.
    """
    check = Checker("gather_references")
    check.tensor("points", points, ("P", 3))
    check.tensor("projections", projections, ("R", 3, 4))
    check.tensor("maps", maps, ("R", "H", "W", "C"))
    if offsets is not None:
        check.tensor("offsets", offsets, ("P", "R", 2))
    return references_reference(points, projections, maps, offsets, nearest)
