"""Rays to frequency-encoded beams, the input of the light field (NLDF section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import beams_reference

MOST_FREQUENCIES = 16
MOST_PADDING = 1024


def _beams(
    origins: Tensor, directions: Tensor, near: float, far: float, points: int, frequencies: int,
    scale: float, pad_to: int = 1, half: bool = False,
) -> Tensor:  # fmt: skip
    encoded = _beams_fake(origins, directions, near, far, points, frequencies, scale, pad_to, half)
    native.launch(
        "beams_half" if half else "beams",
        {"origins": origins, "directions": directions},
        {"encoded": encoded},
        rays=len(origins), points=points, frequencies=frequencies, near=near, far=far, scale=scale,
        columns=encoded.shape[1], dtypes={"encoded": encoded.dtype},
    )  # fmt: skip
    return encoded


def _beams_fake(
    origins: Tensor, directions: Tensor, near: float, far: float, points: int, frequencies: int,
    scale: float, pad_to: int = 1, half: bool = False,
) -> Tensor:  # fmt: skip
    columns = -(-3 * points * (2 * frequencies + 1) // pad_to) * pad_to
    return origins.new_empty(origins.shape[0], columns, dtype=torch.float16 if half else origins.dtype)


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


_call_beams = native.register(
    "beams(Tensor origins, Tensor directions, float near, float far, int points, int frequencies,"
    " float scale, int pad_to=1, bool half=False) -> Tensor",
    _beams,
    _beams_fake,
)
_call_beams_backward = native.register(
    "beams_backward(Tensor origins, Tensor directions, Tensor v_encoded, float near, float far, int points,"
    " int frequencies, float scale) -> (Tensor, Tensor)",
    _beams_backward,
    _beams_backward_fake,
)


class _Beams(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, origins: Tensor, directions: Tensor, pad_to: int, *numbers: float) -> Tensor:
        ctx.save_for_backward(origins, directions)
        ctx.numbers = numbers
        return _call_beams(origins, directions, *numbers, pad_to)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_encoded: Tensor) -> tuple[Any, ...]:
        _, _, points, frequencies, _ = ctx.numbers
        unpadded = v_encoded[:, : 3 * points * (2 * frequencies + 1)]
        gradients = _call_beams_backward(*ctx.saved_tensors, unpadded, *ctx.numbers)
        return *gradients, None, *(None for _ in ctx.numbers)


def encode_beams(
    origins: Tensor, directions: Tensor, near: float, far: float,
    points: int = 16, frequencies: int = 10, *, scale: float = 1.0,
    dtype: torch.dtype | None = None, pad_to: int = 1, backend: str = "native",
) -> Tensor:  # fmt: skip
    """Points along rays, frequency-encoded.

    K points from near to far, both included and evenly spaced, times `scale`, make the vector
    x = [x_1, y_1, z_1, x_2, ...] of 3K. The encoding is [x, sin x, cos x, sin 2x, cos 2x, ...,
    sin 2^(L-1) x, cos 2^(L-1) x] in blocks of 3K. Gradients flow to origins and directions; in
    float16 there are none.

    Args:
        origins, directions: [R, 3].
        near, far: distances of the first and last point, in units of the directions' length, near < far.
        points: K, at least 1 (then the point is at `near`).
        frequencies: L in [0, 16]; 0 gives the points alone. Sines are right to 2e-7 up to 4e5
            radians and to 5e-7 up to 6e6; beyond that float32 no longer resolves angles.
        scale: multiplies the points before they are encoded, for example 1 / radius of the scene.
        dtype: of the result: the inputs' (None), or torch.float16 from float32, rounded once from the
            float32 result, for networks that run in half precision. The points themselves (coordinates,
            not the sines) must stay below 65504.
        pad_to: makes the number of columns a multiple of this by zeros on the right; 16 for matrix
            instructions.
        backend: "native" or "reference".

    Returns:
        [R, C], C = 3 K (2 L + 1) rounded up to a multiple of `pad_to`.

    Raises:
        TypeError, ValueError: an argument doesn't fit, or a gradient in float16 is asked for.
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
    check.integer("pad_to", pad_to, 1, MOST_PADDING)
    half = dtype == torch.float16
    if dtype not in (None, origins.dtype, torch.float16) or (half and origins.dtype != torch.float32):
        raise TypeError(
            f"encode_beams: dtype must be None, {origins.dtype} or, from torch.float32, torch.float16; "
            f"got {dtype}"
        )
    tracked = torch.is_grad_enabled() and (origins.requires_grad or directions.requires_grad)
    if half and tracked:
        raise ValueError(
            "encode_beams: dtype=torch.float16 has no gradient; ask for torch.float32, or call it under "
            "torch.no_grad()"
        )
    if not near < far:
        raise ValueError(f"encode_beams: far must be greater than near={near}, got {far}")
    numbers = (float(near), float(far), points, frequencies, float(scale))
    if not native.use_native("encode_beams", backend):
        return beams_reference(origins, directions, *numbers, pad_to, dtype)
    if tracked:
        return _Beams.apply(origins, directions, pad_to, *numbers)
    return _call_beams(origins, directions, *numbers, pad_to, half)


@dataclass(frozen=True)
class BeamEncoding:
    """How rays become a network's input, as `ops.encode_beams` says.

    Args:
        near, far: distances of the first and last point.
        points: K.
        frequencies: L.
        scale: multiplies the points.
    """

    near: float
    far: float
    points: int = 16
    frequencies: int = 10
    scale: float = 1.0

    @property
    def columns(self) -> int:
        """3 K (2 L + 1), the columns of the encoding."""
        return 3 * self.points * (2 * self.frequencies + 1)

    @property
    def places(self) -> int:
        """Inputs in the kernels' order (csrc/ops/resmlp_pack.h): the coordinates are filled up to fours."""
        return self.columns + -3 * self.points % 4

    def encode(self, origins: Tensor, directions: Tensor, backend: str = "native") -> Tensor:
        """[F, P, columns] of rays [F, P, 3]."""
        beams = encode_beams(
            origins.reshape(-1, 3), directions.reshape(-1, 3), self.near, self.far, self.points,
            self.frequencies, scale=self.scale, backend=backend,
        )  # fmt: skip
        return beams.view(*origins.shape[:2], self.columns)
