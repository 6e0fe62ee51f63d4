"""Whole frames in one pass each: background, learned torso and grid-encoded head, to bytes."""

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
    """One network of a portrait in F frames.

    Args:
        packed: its parameters.
        warp_bias, bias: [F, W] of the networks' first layers in each frame.
        cells: [N, N] uint8, the occupancy map.
    """

    packed: PackedPlanes
    warp_bias: Tensor
    bias: Tensor
    cells: Tensor


@dataclass(frozen=True)
class PortraitView:
    """What F frames are seen by.

    Args:
        pose: [F, 4, 4] camera to head.
        intrinsics: [F, 4] fx, fy, cx, cy in pixels.
        half_size: half the side of the square on the plane z = 0 of head space that the head's map covers.
        motion: [F, 6] of frame's points p to the torso's, inverse @ (p - shift): the inverse row by row, then
            the shift, in units of the frame's width.
    """

    pose: Tensor
    intrinsics: Tensor
    half_size: float
    motion: Tensor


class _Part:
    """A part checked: the fields of the kernel's struct, and where its biases of a frame lie.

    Args:
        name: of the part.
        part: as given.
        frames: F.
        device: of everything.

    Raises:
        TypeError, ValueError: it does not fit.
    """

    def __init__(self, name: str, part: PortraitPart, frames: int, device: torch.device) -> None:
        check, packed, cells = Checker("portrait"), part.packed, part.cells
        check.tensor(f"{name} warp_bias", part.warp_bias, (frames, "W"))
        check.tensor(f"{name} bias", part.bias, (frames, "W"))
        if cells.dtype != torch.uint8 or cells.dim() != 2 or cells.shape[0] != cells.shape[1]:
            raise ValueError(
                f"portrait: {name} cells must be uint8 [N, N], got {cells.dtype} {list(cells.shape)}"
            )
        self._biases = [widen(bias, packed.width).contiguous() for bias in (part.warp_bias, part.bias)]
        if self._biases[0].shape[1] != packed.width:
            raise ValueError(
                f"portrait: {name} biases must be [{frames}, {packed.width}], "
                f"got {list(self._biases[0].shape)}"
            )
        if any(t.device != device for t in (cells, packed.box, *self._biases)):
            raise ValueError(
                f"portrait: {name} must be on {device} as background is, got {packed.box.device}"
            )
        if device.type == "cuda" and packed.width not in PORTRAIT_WIDTHS:
            raise ValueError(f"portrait: {name} must be at most 64 wide on CUDA, got {packed.width}")
        self._cells, self._host = cells.contiguous(), HostNetwork(packed)
        self._fields: dict[str, Any] = {
            "network": self._host.fields,
            "map": {"cells": self._cells.data_ptr(), "resolution": cells.shape[0]},
        }
        self._starts, self._step = [bias.data_ptr() for bias in self._biases], 4 * packed.width

    def at(self, frame: int) -> dict[str, Any]:
        """The struct for the frames from number `frame` on."""
        warp, main = self._starts
        return {**self._fields, "warp_bias": warp + frame * self._step, "bias": main + frame * self._step}


class PortraitFrames:
    """F frames that are ready to be drawn on the CPU or, with fp16 networks (see `ops.planes`), on CUDA.

    All that frames need is computed, checked and looked up here: `draw` is arithmetic on addresses and one
    launch, whatever the number of frames. It calls no operation of torch, allocates nothing and waits for no
    device.

    picture = head + (1 - alpha_head) torso + (1 - alpha) background, rounded as `torch.round` does. The head
    is evaluated where its map is marked, the torso where its own is and the head leaves something to see.

    Args:
        view: cameras, poses and the torso's motions of F frames.
        head: over M planes.
        torso: with one plane at z = 0, or None for none.
        background: [H, W, 3] float32 of all frames, on the device of everything else.

    Attributes:
        shape: (F, H, W, 3) of the uint8 frames.
        device: that draws.

    Raises:
        TypeError, ValueError: an argument doesn't fit; on CUDA, a network wider than 64.
        MissingBackend: the kernel isn't built.
    """

    def __init__(
        self, view: PortraitView, head: PortraitPart, torso: PortraitPart | None, background: Tensor
    ) -> None:
        check = Checker("portrait", (torch.float32,), "torch.float32")
        check.tensor("background", background, ("H", "W", 3))
        check.tensor("pose", view.pose, ("F", 4, 4))
        check.tensor("intrinsics", view.intrinsics, ("F", 4))
        check.tensor("motion", view.motion, ("F", 6))
        height, width, _ = background.shape
        self.shape, self.device = (len(view.pose), height, width, 3), background.device
        parts = {"head": head, "torso": torso or head}
        self._parts = {name: _Part(name, part, self.shape[0], self.device) for name, part in parts.items()}
        given = {"pose": view.pose, "intrinsics": view.intrinsics, "motion": view.motion}
        self._addresses = {name: (t.data_ptr(), 4 * t[:1].numel()) for name, t in given.items()}
        self._launch = native.Launch(
            "portrait", {"background": background, **given}, {}, has_torso=int(torso is not None),
            half_size=view.half_size, width=width, height=height,
        )  # fmt: skip

    def draw(self, first: int, count: int, address: int) -> None:
        """Draws the frames first ... first + count - 1 to [count, H, W, 3] bytes at an address of `device`.

        On CUDA they are launched on torch's current stream. The caller answers for the memory.

        Raises:
            IndexError: there are no such frames.
        """
        if not 0 <= first < first + count <= self.shape[0]:
            raise IndexError(f"frames {first} to {first + count} of {self.shape[0]}")
        changed: dict[str, Any] = {name: part.at(first) for name, part in self._parts.items()}
        for name, (start, step) in self._addresses.items():
            changed[name] = start + first * step
        changed["frames"], changed["out"] = count, address
        self._launch(changed)

    def picture(self, number: int, out: Tensor | None = None) -> Tensor:
        """Frame `number`: uint8 [H, W, 3] of `device`, in `out` where given.

        Raises:
            IndexError: there is no such frame.
            ValueError: `out` does not fit.
        """
        return self._into(out, self.shape[1:], number, 1)

    def pictures(self, out: Tensor | None = None) -> Tensor:
        """All frames: uint8 [F, H, W, 3] of `device`, in `out` where given.

        Raises:
            ValueError: `out` does not fit.
        """
        return self._into(out, self.shape, 0, self.shape[0])

    def _into(self, out: Tensor | None, shape: tuple[int, ...], first: int, count: int) -> Tensor:
        if out is None:
            out = torch.empty(shape, dtype=torch.uint8, device=self.device)
        fits = out.dtype == torch.uint8 and out.device == self.device and out.is_contiguous()
        if not fits or out.shape != shape:
            raise ValueError(
                f"portrait: out must be contiguous uint8 {list(shape)} on {self.device}, "
                f"got {out.dtype} {list(out.shape)} on {out.device}"
            )
        if count:
            self.draw(first, count, out.data_ptr())
        return out


@torch.no_grad()
def render_portrait(
    view: PortraitView, head: PortraitPart, torso: PortraitPart | None, background: Tensor,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """All F frames of a `PortraitFrames`.

    Args:
        view, head, torso, background: as there.
        out: [F, H, W, 3] uint8 to write to, on the background's device; made where None. Besides it nothing
            is allocated that depends on the picture's size.

    Returns:
        `out`.

    Raises:
        TypeError, ValueError: an argument doesn't fit; on CUDA, a network wider than 64.
        MissingBackend: the kernel isn't built.
    """
    return PortraitFrames(view, head, torso, background).pictures(out)
