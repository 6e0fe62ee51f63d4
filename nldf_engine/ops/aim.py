"""Rays as a training step sees them: moved cameras, corrected places, and rays as lines in a box."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import aim_lines_reference, aim_reference

_MAPS = {"occupancy": torch.uint8, "inside": torch.bool}


def _launch(
    name: str, given: tuple[Tensor, ...], v_turned: Tensor | None, outputs: dict[str, Tensor], depth: float
) -> None:
    origins, directions, moves, turns, occupancy, half_size = given
    native.launch(
        name,
        {
            "origins": origins, "directions": directions, "moves": moves, "turns": turns,
            "occupancy": occupancy, "half_size": half_size, "v_turned": v_turned,
        },
        {key: outputs.get(key) for key in ("moved", "turned", "inside", "v_turns")}, _MAPS,
        depth=depth, frames=origins.shape[0], rays=origins.shape[1], cells=len(occupancy),
    )  # fmt: skip


def _aim(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    *tensors, depth = given
    made = _aim_fake(*given)
    _launch("aim", tuple(tensors), None, dict(zip(("moved", "turned", "inside"), made, strict=True)), depth)
    return made


def _aim_fake(origins: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    like = origins.new_empty
    return like(origins.shape), like(origins.shape), like(origins.shape[:2], dtype=torch.bool)


def _aim_backward(*given: Any) -> Tensor:
    *tensors, v_turned, depth = given
    v_turns = _aim_backward_fake(*given)
    _launch("aim_backward", tuple(tensors), v_turned, {"v_turns": v_turns}, depth)
    return v_turns


def _aim_backward_fake(*given: Any) -> Tensor:
    return torch.empty_like(given[3])


def _aim_lines(origins: Tensor, directions: Tensor, box: Tensor) -> Tensor:
    made = _aim_lines_fake(origins, directions, box)
    native.launch(
        "aim_lines", {"origins": origins, "directions": directions, "box": box, "v_lines": None},
        {"lines": made, "v_origins": None, "v_directions": None}, rays=made.numel() // 4,
    )  # fmt: skip
    return made


def _aim_lines_fake(origins: Tensor, directions: Tensor, box: Tensor) -> Tensor:
    return origins.new_empty(*origins.shape[:-1], 4)


def _aim_lines_backward(
    origins: Tensor, directions: Tensor, box: Tensor, v_lines: Tensor, to_origins: bool
) -> tuple[Tensor, Tensor]:
    v_origins, v_directions = _aim_lines_backward_fake(origins, directions, box, v_lines, to_origins)
    native.launch(
        "aim_lines_backward",
        {"origins": origins, "directions": directions, "box": box, "v_lines": v_lines},
        {"lines": None, "v_origins": v_origins if to_origins else None, "v_directions": v_directions},
        rays=v_lines.numel() // 4,
    )  # fmt: skip
    return v_origins, v_directions


def _aim_lines_backward_fake(
    origins: Tensor, directions: Tensor, box: Tensor, v_lines: Tensor, to_origins: bool
) -> tuple[Tensor, Tensor]:
    return origins.new_empty(origins.shape if to_origins else (0,)), origins.new_empty(directions.shape)


_RAYS = "Tensor origins, Tensor directions"
_AIMED = f"{_RAYS}, Tensor moves, Tensor turns, Tensor occupancy, Tensor half_size"
_call_aim = native.register(f"aim({_AIMED}, float depth) -> (Tensor, Tensor, Tensor)", _aim, _aim_fake)
_call_aim_backward = native.register(
    f"aim_backward({_AIMED}, Tensor v_turned, float depth) -> Tensor", _aim_backward, _aim_backward_fake
)
_call_aim_lines = native.register(f"aim_lines({_RAYS}, Tensor box) -> Tensor", _aim_lines, _aim_lines_fake)
_call_aim_lines_backward = native.register(
    f"aim_lines_backward({_RAYS}, Tensor box, Tensor v_lines, bool to_origins) -> (Tensor, Tensor)",
    _aim_lines_backward,
    _aim_lines_backward_fake,
)


class _Aim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, depth: float, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.depth = depth
        ctx.save_for_backward(*given)
        moved, turned, inside = _call_aim(*given, depth)
        ctx.mark_non_differentiable(moved, inside)
        return moved, turned, inside

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Any, v_turned: Tensor, __: Any) -> tuple[Any, ...]:
        v_turns = _call_aim_backward(*ctx.saved_tensors, v_turned, ctx.depth)
        return None, None, None, None, v_turns, None, None


class _AimLines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        ctx.save_for_backward(*given)
        return _call_aim_lines(*given)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_lines: Tensor) -> tuple[Any, ...]:
        to_origins = ctx.needs_input_grad[0]
        v_origins, v_directions = _call_aim_lines_backward(*ctx.saved_tensors, v_lines, to_origins)
        return v_origins if to_origins else None, v_directions, None


def aim_rays(
    origins: Tensor, directions: Tensor, moves: Tensor, turns: Tensor, occupancy: Tensor, half_size: Tensor,
    depth: float, *, backend: str = "native",
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Rays of cameras that are moved a little, to places that are; and which of them may meet the head.

    A frame's camera is moved, and its rays turn about the points where they cross the plane z = depth. Then
    they turn about the camera, so that they cross z = 0 at q + q A + s in place of q. Gradients flow to the
    turns alone.

    Args:
        origins, directions: [F, P, 3] metres in head space.
        moves: [F, 3] metres.
        turns: [F, 6] A row by row, then s in metres.
        occupancy: [N, N] uint8, rows along y: cells of z = 0 that the head may be in.
        half_size: scalar, metres, half the side of their square about the origin.
        depth: metres.
        backend: "native" or "reference".

    Returns:
        origins and directions (unit length) [F, P, 3], and inside [F, P] bool.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.
    """
    check = Checker("aim_rays")
    check.tensor("origins", origins, ("F", "P", 3))
    check.tensor("directions", directions, ("F", "P", 3))
    check.tensor("moves", moves, ("F", 3))
    check.tensor("turns", turns, ("F", 6))
    check.tensor("half_size", half_size, ())
    if occupancy.dtype != torch.uint8 or occupancy.dim() != 2 or occupancy.shape[0] != occupancy.shape[1]:
        raise ValueError(
            f"aim_rays: occupancy must be a square of uint8, got {occupancy.dtype} {list(occupancy.shape)}"
        )
    given = origins, directions, moves, turns, occupancy, half_size
    if not native.use_native("aim_rays", backend):
        return aim_reference(*given, depth)
    if torch.is_grad_enabled() and turns.requires_grad:
        return _Aim.apply(depth, *given)
    return _call_aim(*given, depth)


def rays_to_lines(origins: Tensor, directions: Tensor, box: Tensor, *, backend: str = "native") -> Tensor:
    """Rays [F, P, 3] as lines [F, P, 4] in unit coordinates of a box, as `shade_lines` takes them.

    Gradients flow to the rays.

    Args:
        origins, directions: [F, P, 3].
        box: [4] x, y of the corner at (0, 0) of unit coordinates, and of the one at (1, 1).
        backend: "native" or "reference".

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.
    """
    check = Checker("rays_to_lines")
    check.tensor("origins", origins, ("F", "P", 3))
    check.tensor("directions", directions, ("F", "P", 3))
    check.tensor("box", box, (4,))
    if not native.use_native("rays_to_lines", backend):
        return aim_lines_reference(origins, directions, box)
    if torch.is_grad_enabled() and (origins.requires_grad or directions.requires_grad):
        return _AimLines.apply(origins, directions, box)
    return _call_aim_lines(origins, directions, box)
