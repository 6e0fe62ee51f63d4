"""Pixels and camera poses to rays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import rays_reference

_BLOCK = 1024  # pixels whose gradients are summed in one go


def _rays(pose: Tensor, intrinsics: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    frames, per_frame, _ = pixels.shape
    origins, directions = _rays_fake(pose, intrinsics, pixels)
    native.launch(
        "rays",
        {"pose": pose, "intrinsics": intrinsics, "pixels": pixels},
        {"origins": origins, "directions": directions},
        frames=frames, per_frame=per_frame,
    )  # fmt: skip
    return origins, directions


def _rays_fake(pose: Tensor, intrinsics: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    shape = (pixels.shape[0], pixels.shape[1], 3)
    return pixels.new_empty(shape), pixels.new_empty(shape)


def _rays_backward(
    pose: Tensor, intrinsics: Tensor, pixels: Tensor, v_origins: Tensor, v_directions: Tensor
) -> tuple[Tensor, Tensor]:
    frames, per_frame, _ = pixels.shape
    partial = pixels.new_empty(frames, -(-per_frame // _BLOCK), 16)
    native.launch(
        "rays_backward",
        {
            "pose": pose, "intrinsics": intrinsics, "pixels": pixels,
            "v_origins": v_origins, "v_directions": v_directions,
        },
        {"partial": partial},
        frames=frames, per_frame=per_frame, block=_BLOCK,
    )  # fmt: skip
    sums = partial.sum(1)
    v_pose = torch.zeros_like(pose, memory_format=torch.contiguous_format)
    v_pose[:, :3] = sums[:, :12].view(frames, 3, 4)
    return v_pose, sums[:, 12:].contiguous()


def _rays_backward_fake(
    pose: Tensor, intrinsics: Tensor, pixels: Tensor, v_origins: Tensor, v_directions: Tensor
) -> tuple[Tensor, Tensor]:
    return pose.new_empty(pose.shape), intrinsics.new_empty(intrinsics.shape)


_call_rays = native.register(
    "rays(Tensor pose, Tensor intrinsics, Tensor pixels) -> (Tensor, Tensor)", _rays, _rays_fake
)
_call_rays_backward = native.register(
    "rays_backward(Tensor pose, Tensor intrinsics, Tensor pixels, Tensor v_origins, Tensor v_directions)"
    " -> (Tensor, Tensor)",
    _rays_backward,
    _rays_backward_fake,
)


class _Rays(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pose: Tensor, intrinsics: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pose, intrinsics, pixels)
        return _call_rays(pose, intrinsics, pixels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_origins: Tensor, v_directions: Tensor) -> tuple[Tensor, Tensor, None]:
        return *_call_rays_backward(*ctx.saved_tensors, v_origins, v_directions), None


def generate_rays(
    pose: Tensor, intrinsics: Tensor, pixels: Tensor, *, backend: str = "native"
) -> tuple[Tensor, Tensor]:
    """Rays of pixels under camera poses.

    A pixel (x, y) looks along R ((x - cx) / fx, (y - cy) / fy, 1), normalised to unit length, from the
    pose's translation. Gradients flow to `pose` and `intrinsics`.

    Args:
        pose: [F, 4, 4] camera-to-head matrices (OpenCV axes: x right, y down, z forward).
        intrinsics: [F, 4] fx, fy, cx, cy in pixels, focal lengths not 0.
        pixels: [F, P, 2] continuous (x, y); the caller has added the +0.5 of pixel centres.
        backend: "native" or "reference".

    Returns:
        origins and directions, both [F, P, 3]; directions have unit length.

    Raises:
        TypeError, ValueError: an argument doesn't fit, or `pixels` asks for a gradient.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> pixels = torch.tensor([[[2.0, 2.0]]])
        >>> _, directions = generate_rays(torch.eye(4)[None], torch.tensor([[4.0, 4.0, 2.0, 2.0]]), pixels)
        >>> directions.tolist()
        [[[0.0, 0.0, 1.0]]]
    """
    check = Checker("generate_rays")
    check.tensor("pose", pose, ("F", 4, 4))
    check.tensor("intrinsics", intrinsics, ("F", 4))
    check.tensor("pixels", pixels, ("F", "P", 2))
    if pixels.requires_grad:
        raise ValueError("generate_rays: pixels must not require a gradient, none flows to it; detach() it")
    if not native.use_native("generate_rays", backend):
        return rays_reference(pose, intrinsics, pixels)
    if torch.is_grad_enabled() and (pose.requires_grad or intrinsics.requires_grad):
        return _Rays.apply(pose, intrinsics, pixels)
    return _call_rays(pose, intrinsics, pixels)
