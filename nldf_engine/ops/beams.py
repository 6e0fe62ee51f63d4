"""Rays to frequency-encoded beams, the input of the light field (NLDF section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import beams_reference

MOST_FREQUENCIES = 16


def _beams(
    origins: Tensor, directions: Tensor, near: float, far: float, points: int, frequencies: int, scale: float
) -> Tensor:
    encoded = _beams_fake(origins, directions, near, far, points, frequencies, scale)
    native.launch(
        "beams",
        {"origins": origins, "directions": directions},
        {"encoded": encoded},
        rays=len(origins), points=points, frequencies=frequencies, near=near, far=far, scale=scale,
    )  # fmt: skip
    return encoded


def _beams_fake(
    origins: Tensor, directions: Tensor, near: float, far: float, points: int, frequencies: int, scale: float
) -> Tensor:
    return origins.new_empty(origins.shape[0], 3 * points * (2 * frequencies + 1))


def _beams_backward(
    origins: Tensor, directions: Tensor, v_encoded: Tensor,
    near: float, far: float, points: int, frequencies: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    v_origins, v_directions = origins.new_empty(origins.shape), origins.new_empty(origins.shape)
    native.launch(
        "beams_backward",
        {"origins": origins, "directions": directions, "v_encoded": v_encoded},
        {"v_origins": v_origins, "v_directions": v_directions},
        rays=len(origins), points=points, frequencies=frequencies, near=near, far=far, scale=scale,
    )  # fmt: skip
    return v_origins, v_directions


def _beams_backward_fake(
    origins: Tensor, directions: Tensor, v_encoded: Tensor,
    near: float, far: float, points: int, frequencies: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return origins.new_empty(origins.shape), directions.new_empty(directions.shape)


native.register(
    "beams(Tensor origins, Tensor directions, float near, float far, int points, int frequencies,"
    " float scale) -> Tensor",
    _beams,
    _beams_fake,
)
native.register(
    "beams_backward(Tensor origins, Tensor directions, Tensor v_encoded, float near, float far, int points,"
    " int frequencies, float scale) -> (Tensor, Tensor)",
    _beams_backward,
    _beams_backward_fake,
)


class _Beams(torch.autograd.Function):
    @staticmethod
    def forward(origins: Tensor, directions: Tensor, *numbers: float) -> Tensor:
        return torch.ops.nldf.beams(origins, directions, *numbers)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.numbers = inputs[2:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_encoded: Tensor) -> tuple[Any, ...]:
        gradients = torch.ops.nldf.beams_backward(*ctx.saved_tensors, v_encoded, *ctx.numbers)
        return *gradients, *(None for _ in ctx.numbers)


def encode_beams(
    origins: Tensor, directions: Tensor, near: float, far: float,
    points: int = 16, frequencies: int = 10, *, scale: float = 1.0, backend: str = "native",
) -> Tensor:  # fmt: skip
    """Points along rays, frequency-encoded.

    K points from near to far, both included and evenly spaced, times `scale`, make the vector
    x = [x_1, y_1, z_1, x_2, ...] of 3K. The encoding is [x, sin x, cos x, sin 2x, cos 2x, ...,
    sin 2^(L-1) x, cos 2^(L-1) x] in blocks of 3K. Gradients flow to origins and directions.

    Args:
        origins, directions: [R, 3].
        near, far: distances of the first and last point, in units of the directions' length, near < far.
        points: K, at least 1 (then the point lies at `near`).
        frequencies: L in [0, 16]; 0 gives the points alone. Sines are right to 2e-7 up to 4e5
            radians and to 5e-7 up to 6e6; beyond that float32 itself no longer tells angles apart.
        scale: multiplies the points before they are encoded, for example 1 / radius of the scene.
        backend: "native" or "reference".

    Returns:
        [R, 3 K (2 L + 1)].

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> origins, directions = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]])
        >>> encode_beams(origins, directions, 1.0, 3.0, points=3, frequencies=0).tolist()
        [[0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 3.0]]
    """
    check = Checker("encode_beams")
    check.tensor("origins", origins, ("R", 3))
    check.tensor("directions", directions, ("R", 3))
    check.number("near", near)
    check.number("far", far)
    check.number("scale", scale)
    check.integer("points", points, 1)
    check.integer("frequencies", frequencies, 0, MOST_FREQUENCIES)
    if not near < far:
        raise ValueError(f"encode_beams: far must be greater than near={near}, got {far}")
    numbers = (float(near), float(far), points, frequencies, float(scale))
    if not native.use_native("encode_beams", backend):
        return beams_reference(origins, directions, *numbers)
    if torch.is_grad_enabled() and (origins.requires_grad or directions.requires_grad):
        return _Beams.apply(origins, directions, *numbers)
    return torch.ops.nldf.beams(origins, directions, *numbers)
