"""A head over a torso over a background, compared with a picture: what both are trained by together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import matte_reference
from nldf_engine.ops.specs import MatteWeights

_PIECE = 256
_SEEN = (
    "segments", "opacity", "color", "alpha", "behind", "target", "mask", "interior", "plate", "dense",
    "labels",
)  # fmt: skip
_FORWARD = ("error", "figures", "partial")
_BACKWARD = ("v_segments", "v_opacity", "v_color", "v_alpha")
_TENSORS = ", ".join(f"Tensor {name}" for name in _SEEN)


class Compared(NamedTuple):
    """What comes of `compare_matte`: the error [F, P, 3], with gradients; the loss, a scalar with gradients;
    `pixel`, the mean squared error a ray, and `opacity`, the opacities' mean error, scalars without."""

    error: Tensor
    total: Tensor
    pixel: Tensor
    opacity: Tensor


def _launch(
    name: str, seen: Sequence[Tensor], inputs: dict[str, Tensor | None], outputs: dict[str, Tensor],
    labels_of: Sequence[int], weights: Sequence[float],
) -> None:  # fmt: skip
    native.launch(
        name, dict(zip(_SEEN, seen, strict=True)) | inputs,
        {key: outputs.get(key) for key in (*_FORWARD, *_BACKWARD)}, {"labels": torch.uint8},
        rays=seen[1].numel(), planes=seen[0].shape[-2],
        **dict(zip(("background", "head", "torso"), labels_of, strict=True)),
        **dict(zip(MatteWeights._fields, weights, strict=True)),
    )  # fmt: skip


def _matte(*given: Any) -> tuple[Tensor, Tensor]:
    *seen, labels_of, weights = given
    error, figures = _matte_fake(*given)
    partial = error.new_empty(-(-seen[1].numel() // _PIECE), 3)
    made = {"error": error, "figures": figures, "partial": partial}
    _launch("matte", seen, dict.fromkeys(("v_error", "v_total")), made, labels_of, weights)
    return error, figures


def _matte_fake(*given: Any) -> tuple[Tensor, Tensor]:
    target = given[5]
    return torch.empty_like(target), target.new_empty(3)


def _matte_backward(*given: Any) -> tuple[Tensor, ...]:
    *seen, v_error, v_total, labels_of, weights = given
    gradients = _matte_backward_fake(*given)
    made = dict(zip(_BACKWARD, gradients, strict=True))
    _launch("matte_backward", seen, {"v_error": v_error, "v_total": v_total}, made, labels_of, weights)
    return gradients


def _matte_backward_fake(*given: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in given[:4])


_call_matte = native.register(
    f"matte({_TENSORS}, int[] labels_of, float[] weights) -> (Tensor, Tensor)", _matte, _matte_fake
)
_call_matte_backward = native.register(
    f"matte_backward({_TENSORS}, Tensor? v_error, Tensor? v_total, int[] labels_of, float[] weights)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _matte_backward,
    _matte_backward_fake,
)


class _Matte(torch.autograd.Function):
    """Gives error, total, and the figures, of which only the first two have gradients."""

    @staticmethod
    def forward(ctx: Any, labels_of: list[int], weights: MatteWeights, *seen: Tensor) -> tuple[Tensor, ...]:
        ctx.numbers = labels_of, weights
        ctx.save_for_backward(*seen)
        ctx.set_materialize_grads(False)
        error, figures = _call_matte(*seen, labels_of, weights)
        total = figures[0]
        ctx.mark_non_differentiable(figures)
        return error, total, figures

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_error: Tensor | None, v_total: Tensor | None, _: Any) -> tuple[Any, ...]:
        given = _call_matte_backward(*ctx.saved_tensors, v_error, v_total, *ctx.numbers)
        return None, None, *given, *[None] * (len(_SEEN) - len(given))


def compare_matte(
    head: tuple[Tensor, Tensor], torso: tuple[Tensor, Tensor], behind: Tensor, target: Tensor, mask: Tensor,
    interior: Tensor, plate: tuple[Tensor, Tensor], labels: Tensor, labels_of: tuple[int, int, int],
    weights: MatteWeights, *, backend: str = "native",
) -> Compared:  # fmt: skip
    """A head over a torso over a background against a picture: the error, and the loss of both.

    The loss is the mean squared error a ray and a share of the edges' (Charbonnier), and a weight times what
    csrc's matte.h calls the opacity's error. Gradients flow to head and torso.

    Args:
        head: segment colours [F, P, M, 3] and opacity [F, P].
        torso: colour [F, P, 3], times its opacity, and opacity [F, P].
        behind, target: [F, P, 3] the background, and the picture.
        mask, interior: [F, P] 1 where the head is and what it draws, and in the speaker's interior, else 0.
        plate: colour [F, P, 3], times its opacity, and opacity [F, P], which the torso had better be like
            where the head hides it.
        labels: [F, P] uint8.
        labels_of: the labels of background, head and torso.
        weights: of the parts.
        backend: "native" or "reference".

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.
    """
    check = Checker("compare_matte")
    seen = (*head, *torso, behind, target, mask, interior, *plate)
    rays, colors = ("F", "P"), ("F", "P", 3)
    shapes = (("F", "P", "M", 3), rays, colors, rays, colors, colors, rays, rays, colors, rays)
    for name, value, shape in zip(_SEEN, seen, shapes, strict=False):
        check.tensor(name, value, shape)
    if labels.dtype != torch.uint8 or labels.shape != mask.shape:
        raise ValueError(
            f"compare_matte: labels must be uint8 of the shape {list(mask.shape)}, got {labels.dtype} of "
            f"{list(labels.shape)}"
        )
    if not native.use_native("compare_matte", backend):
        return Compared(*matte_reference(*seen, labels, labels_of, weights))
    error, total, figures = _Matte.apply(list(labels_of), weights, *seen, labels)
    return Compared(error, total, figures[1], figures[2])
