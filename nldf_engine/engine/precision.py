"""Which precision an avatar's networks compute in, and whether it holds on this machine.

"auto" takes the fastest that a device computes well: "fp16" on GPUs of compute capability 8.0 and newer,
"int8" and else "int16" on CPUs with vectors of such products, else "fp32". Before one is taken, some pictures
of the very avatar are drawn in it and in float32. Where "int8" is not far enough above `LEAST_PSNR`, the
avatar needs more bits. Where the last one differs by more than that, or any by more than rounding hardly
ever does (`WRONG_PSNR`), a kernel seems wrong for that device, which a warning says: then it is the next
one, "fp32" last.
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
AUTO = {"cuda": ("fp16",), "cpu": ("int8", "int16")}
"""What "auto" tries on a device type, one after another; "fp32" elsewhere."""
FAST = {"int8": ("avx512",), "int16": ("avx2", "avx512")}
"""The CPU's instruction sets in which a precision is faster than those behind it."""
LEAST_CAPABILITY = (8, 0)
LEAST_PSNR = 50.0
LEAST_INT8_PSNR = 53.0
"""In the few pictures that are drawn, so that those that are not drawn keep `LEAST_PSNR` too."""
WRONG_PSNR = 40.0
"""What rounding hardly falls below: what does is a kernel that is wrong, or a layer whose weights span many
magnitudes."""
CHECKED_CODES, CHECKED_SIDE, SEED = 3, 64, 0
MOST_CHECKED = 512
"""Width at most of the pictures where all is drawn in one pass, which skips more where pixels are closer."""


def chosen(given: str, device: torch.device) -> tuple[tuple[str, ...], bool]:
    """The precisions that are wanted, the best first, and whether one may be given up where it does not hold.

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
        return (given,), False
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        return ("fp32",), False
    tried = AUTO.get(device.type, ())
    if device.type == "cpu":
        tried = tuple(name for name in tried if native.cpu_isa() in FAST[name])
    return (tried, True) if tried else (("fp32",), False)


@torch.no_grad()
def psnr_to_float32(
    portrait: Portrait, camera: Camera, pose: Tensor, motion: Tensor, parts: Sequence[Any],
    side: int = CHECKED_SIDE, known: dict[int, Tensor] | None = None,
) -> float:  # fmt: skip
    """PSNR in dB of some pictures as the parts draw them, to those in float32; infinite where they agree.

    Args:
        portrait: what draws.
        camera: of the avatar.
        pose: [4, 4] camera to head; motion: [2, 3] of the torso.
        parts: modules of the portrait whose `precision` is set.
        side: width of the pictures.
        known: pictures in float32 by their width, which are drawn where they are missing and then kept there.
    """
    small = View(camera.scaled(side), pose, motion)
    dim = int(portrait.head.driver.dim)
    codes = 0.5 * torch.randn(CHECKED_CODES, dim, generator=torch.Generator().manual_seed(SEED))
    height, width = small.camera.height, small.camera.width
    behind = torch.full((height, width, 3), 0.5, device=pose.device)

    def pictures() -> Tensor:
        drawn = [portrait.picture(small, code, behind).clone() for code in codes.to(pose.device)]
        return torch.stack(drawn).double()

    made = pictures()
    known = {} if known is None else known
    if side not in known:
        known[side] = _in_float32(parts, pictures)
    error = float((made - known[side]).square().mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def holds(precision: str, psnr: float) -> bool:
    """Whether a precision may be taken for pictures that have so many dB to those in float32."""
    return psnr >= (LEAST_INT8_PSNR if precision == "int8" else LEAST_PSNR)


def _in_float32(parts: Sequence[Any], draw: Callable[[], Tensor]) -> Tensor:
    given = [part.precision for part in parts]
    try:
        for part in parts:
            part.precision = "fp32"
        return draw()
    finally:
        for part, precision in zip(parts, given, strict=True):
            part.precision = precision


def is_wrong(psnr: float) -> bool:
    """Whether pictures differ from those in float32 by more than rounding explains."""
    return not psnr >= WRONG_PSNR


def warn_given_up(precision: str, device: torch.device, kernel: str, psnr: float, instead: str) -> None:
    """Says that a precision does not hold on a device, and which one is taken `instead`."""
    from nldf_engine.base.machine import processor

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    warnings.warn(
        f"precision: {precision} differs from float32 on {name} (kernel {kernel}): {psnr:.1f} dB, expected "
        f"at least {LEAST_PSNR:g}; rendering in {instead}. Please report it; {precision!r} itself keeps it",
        RuntimeWarning, stacklevel=2,
    )  # fmt: skip


def check_finite(portrait: Portrait, avatar: str) -> None:
    """Checks the numbers of a portrait, which integers and halves may make finite without a word.

    Args:
        portrait: what draws.
        avatar: its name.

    Raises:
        ValueError: one holds NaN or infinity.
    """
    for name, value in portrait.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"avatar {avatar!r}: the tensor {name!r} holds NaN or infinity")
