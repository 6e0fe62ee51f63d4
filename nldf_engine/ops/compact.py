"""Compacts the rays that a network is evaluated for, and scatters their colours into the frame."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import compact_over_reference, compact_reference

TILE = 2048  # kCompactTile of csrc/ops/compact.h
MOST_RAYS = 2**31 - 1


def _compact(mask: Tensor) -> tuple[Tensor, Tensor]:
    order, count = _compact_fake(mask)
    count.zero_()  # without rays no kernel runs
    rays = len(mask)
    tiles = order.new_empty((rays + TILE - 1) // TILE)
    native.launch(
        "compact",
        {"mask": mask},
        {"order": order, "count": count, "tiles": tiles},
        dtypes=dict.fromkeys(("order", "count", "tiles"), torch.int32),
        rays=rays,
    )
    return order, count


def _compact_fake(mask: Tensor) -> tuple[Tensor, Tensor]:
    return mask.new_empty(mask.shape[0], dtype=torch.int32), mask.new_empty(1, dtype=torch.int32)


def _compact_over(
    colors: Tensor, opacity: Tensor, order: Tensor, under_color: Tensor | None, under_alpha: Tensor | None
) -> tuple[Tensor, Tensor]:
    out_color, out_alpha = _compact_over_fake(colors, opacity, order, under_color, under_alpha)
    native.launch(
        "compact_over",
        {
            "colors": colors, "opacity": opacity, "order": order,
            "under_color": under_color, "under_alpha": under_alpha,
        },
        {"out_color": out_color, "out_alpha": out_alpha},
        dtypes={"order": torch.int32},
        rays=len(order), chosen=len(colors),
    )  # fmt: skip
    return out_color, out_alpha


def _compact_over_fake(
    colors: Tensor, opacity: Tensor, order: Tensor, under_color: Tensor | None, under_alpha: Tensor | None
) -> tuple[Tensor, Tensor]:
    return colors.new_empty(order.shape[0], 3), colors.new_empty(order.shape[0])


_call_compact = native.register("compact(Tensor mask) -> (Tensor, Tensor)", _compact, _compact_fake)
_call_compact_over = native.register(
    "compact_over(Tensor colors, Tensor opacity, Tensor order, Tensor? under_color, Tensor? under_alpha)"
    " -> (Tensor, Tensor)",
    _compact_over,
    _compact_over_fake,
)


def compact_rays(mask: Tensor, *, backend: str = "native") -> tuple[Tensor, Tensor]:
    """An order of all rays in which the chosen ones come first.

    The result is the same on every device and with every number of threads. Nothing is synchronised: on
    CUDA it is the caller's int(count) that waits for the device.

    Args:
        mask: [R] bool or uint8, other than 0 where a ray is chosen; R below 2^31.
        backend: "native" or "reference".

    Returns:
        order [R] int32: the chosen rays in order, then the others from the back (the last place holds
        the first of them), so order[:count] are the rays to evaluate; count [1] int32.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> order, count = compact_rays(torch.tensor([False, True, False, True]))
        >>> order.tolist(), int(count)
        ([1, 3, 2, 0], 2)
    """
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        mask = mask.view(torch.uint8)
    check = Checker("compact_rays", (torch.uint8,), "torch.bool or torch.uint8")
    check.tensor("mask", mask, ("R",))
    if len(mask) > MOST_RAYS:
        raise ValueError(f"compact_rays: mask must have fewer than 2^31 rays, got {len(mask)}")
    if not native.use_native("compact_rays", backend):
        return compact_reference(mask)
    return _call_compact(mask)


def composite_rays(
    colors: Tensor, opacity: Tensor, order: Tensor,
    under: tuple[Tensor, Tensor] | None = None, *, backend: str = "native",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Colours of the chosen rays, put into a frame over what is under it.

    Ray order[n] becomes colors[n] + (1 - opacity[n]) * under, for n < N; every other ray shows what is
    under it. There is no gradient: this is for rendering, which needs no gradient.

    Args:
        colors: [N, 3], premultiplied.
        opacity: [N].
        order: [R] int32, as `compact_rays` returns it; N is at most R. That it is a permutation isn't
            checked (that would have to wait for the device): a ray that it leaves out has no value.
        under: the layer behind, color [R, 3] premultiplied and alpha [R]; None is nothing at all.
        backend: "native" or "reference".

    Returns:
        color [R, 3] premultiplied, and alpha [R].

    Raises:
        TypeError, ValueError: an argument doesn't fit, or a gradient is asked for.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> order, count = compact_rays(torch.tensor([False, True]))
        >>> under = torch.zeros(2, 3), torch.ones(2)
        >>> color, alpha = composite_rays(torch.ones(1, 3), torch.ones(1), order, under)
        >>> color[:, 0].tolist(), alpha.tolist()
        ([0.0, 1.0], [1.0, 1.0])
    """
    check = Checker("composite_rays")
    check.tensor("colors", colors, ("N", 3))
    check.tensor("opacity", opacity, ("N",))
    places = Checker("composite_rays", (torch.int32,), "torch.int32")
    places.tensor("order", order, ("R",))
    if order.device != colors.device:
        raise ValueError(f"composite_rays: order must be on {colors.device} as colors is, got {order.device}")
    if len(colors) > len(order):
        raise ValueError(
            f"composite_rays: colors must have at most R={len(order)} rays, as order has, got {len(colors)}"
        )
    check.sizes["R"] = len(order)
    tensors = [colors, opacity]
    if under is not None:
        check.tensor("under[0]", under[0], ("R", 3))
        check.tensor("under[1]", under[1], ("R",))
        tensors += under
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        raise ValueError("composite_rays: there is no gradient; call it under torch.no_grad()")
    behind = (None, None) if under is None else under
    if not native.use_native("composite_rays", backend):
        return compact_over_reference(colors, opacity, order, *behind)
    return _call_compact_over(colors, opacity, order, *behind)
