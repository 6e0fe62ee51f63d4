"""A whole frame in one pass: background, learned torso and grid-encoded head, to bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.packed_planes import PORTRAIT_WIDTHS, HostNetwork, PackedPlanes
from nldf_engine.ops.packing import widen


@dataclass(frozen=True)
class PortraitPart:
    """One network of a portrait in one frame.

    Args:
        packed: its parameters.
        warp_bias, bias: [1, W] of the networks' first layers in this frame.
        cells: [N, N] uint8, the occupancy map.
    """

    packed: PackedPlanes
    warp_bias: Tensor
    bias: Tensor
    cells: Tensor


@dataclass(frozen=True)
class PortraitView:
    """What a frame is seen by.

    Args:
        pose: [4, 4] camera to head.
        intrinsics: [4] fx, fy, cx, cy in pixels.
        half_size: half the side of the square on the plane z = 0 of head space that the head's map covers.
        motion: [6] of frame's points p to the torso's, inverse @ (p - shift): the inverse row by row, then
            the shift, in units of the frame's width.
    """

    pose: Tensor
    intrinsics: Tensor
    half_size: float
    motion: Tensor


def _part(name: str, part: PortraitPart, held: list[Any]) -> dict[str, Any]:
    check = Checker("portrait")
    packed = part.packed
    check.tensor(f"{name} warp_bias", part.warp_bias, (1, "W"))
    check.tensor(f"{name} bias", part.bias, (1, "W"))
    if part.cells.dtype != torch.uint8 or part.cells.dim() != 2 or part.cells.shape[0] != part.cells.shape[1]:
        raise ValueError(
            f"portrait: {name} cells must be uint8 [N, N], got {part.cells.dtype} {list(part.cells.shape)}"
        )
    biases = tuple(widen(bias, packed.width).contiguous() for bias in (part.warp_bias, part.bias))
    if biases[0].shape[1] != packed.width:
        raise ValueError(f"portrait: {name} biases must be [1, {packed.width}], got {list(biases[0].shape)}")
    if packed.box.device.type == "cuda" and packed.width not in PORTRAIT_WIDTHS:
        raise ValueError(f"portrait: {name} must be at most 64 wide on CUDA, got {packed.width}")
    cells = part.cells.contiguous()
    host = HostNetwork(packed)
    held += [host, *biases, cells]
    return {
        "network": host.fields,
        "warp_bias": biases[0].data_ptr(),
        "bias": biases[1].data_ptr(),
        "map": {"cells": cells.data_ptr(), "resolution": cells.shape[0]},
    }


@torch.no_grad()
def render_portrait(
    view: PortraitView, head: PortraitPart, torso: PortraitPart | None, background: Tensor,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """One frame, from rays to bytes, on the CPU or, with fp16 networks (see `ops.planes`), on CUDA.

    picture = head + (1 - alpha_head) torso + (1 - alpha) background, rounded as `torch.round` does. The head
    is evaluated where its map is marked, the torso where its own is and the head leaves something to see.

    Args:
        view: camera, pose and the torso's motion.
        head: over M planes.
        torso: with one plane at z = 0, or None for none.
        background: [H, W, 3] float32, on the device of everything else.
        out: [H, W, 3] uint8 to write to, on that device; made where None. Besides it nothing is allocated
            that depends on the picture's size.

    Returns:
        `out`.

    Raises:
        TypeError, ValueError: an argument doesn't fit; on CUDA, a network wider than 64.
        MissingBackend: the kernel isn't built.
    """
    check = Checker("portrait")
    check.tensor("background", background, ("H", "W", 3))
    check.tensor("pose", view.pose, (4, 4))
    check.tensor("intrinsics", view.intrinsics, (4,))
    check.tensor("motion", view.motion, (6,))
    if background.dtype != torch.float32:
        raise TypeError(f"portrait: background must be torch.float32, got {background.dtype}")
    if out is None:
        out = torch.empty(background.shape, dtype=torch.uint8, device=background.device)
    if out.dtype != torch.uint8 or out.shape != background.shape or not out.is_contiguous():
        raise ValueError(
            f"portrait: out must be contiguous uint8 {list(background.shape)}, "
            f"got {out.dtype} {list(out.shape)}"
        )
    held: list[Any] = []
    parts = {"head": _part("head", head, held), "torso": _part("torso", torso or head, held)}
    height, width, _ = background.shape
    native.launch(
        "portrait",
        {"background": background, "pose": view.pose, "intrinsics": view.intrinsics, "motion": view.motion},
        {"out": out},
        {"out": torch.uint8},
        **parts, has_torso=int(torso is not None), half_size=view.half_size, width=width, height=height,
    )  # fmt: skip
    return out
