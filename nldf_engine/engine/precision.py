"""Which precision an avatar's networks compute in, and whether it holds on this machine.

"auto" takes the fastest that a device computes well: "fp16" on GPUs of compute capability 8.0 and newer,
"int16" on CPUs with vectors of such products, else "fp32". Before it is taken, some pictures of the very
avatar are drawn in both. Where they differ by more than `LEAST_PSNR`, a kernel is wrong for that device, and
"fp32" is used.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nldf_engine.geometry.cameras import Camera
from nldf_engine.ops import native
from nldf_engine.rendering.layer import View
from nldf_engine.rendering.portrait import Portrait

ENVIRONMENT = "NLDF_PRECISION"
"""Environment variable that says what "auto" is."""
PRECISIONS = ("auto", "fp32", "int16", "int8", "fp16")
WHERE = {"int16": "cpu", "int8": "cpu", "fp16": "cuda"}
"""Device type that each precision other than fp32 needs."""
AUTO = {"cuda": "fp16", "cpu": "int16"}
"""What "auto" tries on a device type; "fp32" elsewhere."""
FAST_INT16 = ("avx2", "avx512")
"""The CPU's instruction sets in which products of int16 are faster than those of float32."""
LEAST_CAPABILITY = (8, 0)
LEAST_PSNR = 50.0
CHECKED_CODES, CHECKED_SIDE, SEED = 3, 64, 0


def chosen(given: str, device: torch.device) -> tuple[str, bool]:
    """The precision that is wanted, and whether it may be given up where it does not hold.

    Args:
        given: one of `PRECISIONS`.
        device: that renders.

    Raises:
        ValueError: an unknown precision, of the argument or of the environment.
    """
    if given not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(map(repr, PRECISIONS))}, got {given!r}")
    if given == "auto":
        given = os.environ.get(ENVIRONMENT, "auto")
        if given not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise ValueError(f"{ENVIRONMENT}: expected one of {known}, got {given!r} in the environment")
    if given != "auto":
        return given, False
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        return "fp32", False
    if device.type == "cpu" and native.cpu_isa() not in FAST_INT16:
        return "fp32", False
    return AUTO.get(device.type, "fp32"), True


@torch.no_grad()
def psnr_to_float32(
    portrait: Portrait, camera: Camera, pose: Tensor, motion: Tensor, parts: Sequence[Any]
) -> float:
    """PSNR in dB of some pictures as the parts draw them, to those in float32; infinite where they agree.

    Args:
        portrait: what draws.
        camera: of the avatar.
        pose: [4, 4] camera to head; motion: [2, 3] of the torso.
        parts: modules of the portrait whose `precision` is set.
    """
    small = View(camera.scaled(CHECKED_SIDE), pose, motion)
    dim = int(portrait.head.driver.dim)
    codes = 0.5 * torch.randn(CHECKED_CODES, dim, generator=torch.Generator().manual_seed(SEED))
    height, width = small.camera.height, small.camera.width
    behind = torch.full((height, width, 3), 0.5, device=pose.device)

    def pictures() -> Tensor:
        drawn = [portrait.picture(small, code, behind).clone() for code in codes.to(pose.device)]
        return torch.stack(drawn).double()

    made = pictures()
    wanted = _in_float32(parts, pictures)
    error = float((made - wanted).square().mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _in_float32(parts: Sequence[Any], draw: Callable[[], Tensor]) -> Tensor:
    given = [part.precision for part in parts]
    try:
        for part in parts:
            part.precision = "fp32"
        return draw()
    finally:
        for part, precision in zip(parts, given, strict=True):
            part.precision = precision


def warn_given_up(precision: str, device: torch.device, kernel: str, psnr: float) -> None:
    """Says that a precision does not hold on a device, and that float32 is used."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    warnings.warn(
        f"precision: {precision} differs from float32 on {name} (kernel {kernel}): {psnr:.1f} dB, expected "
        f"at least {LEAST_PSNR:g}; rendering in fp32. Please report it; {precision!r} itself keeps it",
        RuntimeWarning, stacklevel=2,
    )  # fmt: skip
