"""The residual MLP of NLDF (section 3.1) on CUDA, without gradient: several ways to the same numbers.

- "turns": one kernel for compute capability 9.0, width 256 (csrc/ops/resmlp_wgmma_cuda.cu), whose two
computing
  warpgroups take turns at the tensor cores: one multiplies while the other adds biases and rounds. "wgmma" is
      the same one without turns, for measurements.
- "mma": one kernel for 8.0 and newer, widths 16, 32, 64, 128 and 256 (csrc/ops/resmlp_mma_cuda.cu).
- "chain": `resmlp_chain.ResmlpChain`, a matrix product a layer through torch: what the kernels are checked
  and timed against, and the way for all other sizes.

The two kernels also take rays and encode their beams as they go, so that no [R, 1008] input is in memory.

Weights and activations are rounded to fp16, sums are fp32; inputs, biases and outputs are float32. None of
them has been measured on a GPU yet.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.beams import BeamEncoding
from nldf_engine.ops.specs import ResmlpWeights

KERNELS = ("wgmma", "turns", "mma", "chain")
_WIDTHS = {"wgmma": (256,), "mma": (16, 32, 64, 128, 256)}
# The order of the weights, by its place in csrc/ops/resmlp_pack.h.
_LAYOUTS = ("mma", "wgmma")
MOST_PIXEL_OUTPUTS = 16
"""Most outputs of a network whose segments a kernel sums to pixels."""


def resmlp_kernel(device: torch.device | str, width: int = 256, out_dim: int = 13) -> str:
    """Which way a residual MLP takes on a CUDA device: one of KERNELS.

    The compute capability and the architectures that the module was built for decide; the environment
    variable NLDF_RESMLP names another way, for measurements.

    Args:
        device: a CUDA device.
        width: W of the network.
        out_dim: its outputs.

    Raises:
        ValueError: no CUDA device, or NLDF_RESMLP names no way, or one that the device can't go.
    """
    device = torch.device(device)
    if device.type != "cuda":
        raise ValueError(f"resmlp_kernel: device must be a CUDA device, got {device}")
    wanted = os.environ.get("NLDF_RESMLP", "")
    if wanted and wanted not in KERNELS:
        raise ValueError(f"resmlp_kernel: NLDF_RESMLP must be one of {', '.join(KERNELS)}, got {wanted!r}")
    if wanted in ("chain", "mma"):
        return wanted
    capability = torch.cuda.get_device_capability(device)
    archs = native.backends()["cuda_archs"]
    hopper = capability == (9, 0) and any(arch.startswith("90a") for arch in archs)
    if (
        wanted and not hopper
    ):  # elsewhere the kernel stops, and with it all that the process has on the device
        raise ValueError(
            f"resmlp_kernel: NLDF_RESMLP={wanted} needs compute capability 9.0 and a build for 90a, "
            f"got {'.'.join(map(str, capability))} and {', '.join(archs) or 'no CUDA build'}"
        )
    if wanted or (hopper and _takes("turns", width, out_dim)):
        return wanted or "turns"
    if archs and capability >= (8, 0) and _takes("mma", width, out_dim):
        return "mma"
    return "chain"


def _layout(kernel: str) -> str:
    return "wgmma" if kernel == "turns" else kernel


def _depth(layout: str, width: int) -> int:
    """Columns of input that a chunk of the weight stream covers; as many outputs fit the tail."""
    return 64 if layout == "wgmma" else min(width, 32)


def _takes(kernel: str, width: int, out_dim: int) -> bool:
    layout = _layout(kernel)
    return width in _WIDTHS[layout] and out_dim <= _depth(layout, width)


@dataclass(frozen=True)
class PackedResmlpCuda:
    """Weights as one fused kernel reads them; made by `pack_resmlp_cuda`.

    Args:
        kernel: "wgmma", "turns" or "mma".
        weights: [chunks, W * depth] int16, the bits of fp16: all layers in the order of use.
        body_bias: [2B, W] float32.
        tail_bias: [out] float32.
        in_dim: columns of the input.
        points: K where the kernel makes the input from rays, or 0 where it is given.
    """

    kernel: str
    weights: Tensor
    body_bias: Tensor
    tail_bias: Tensor
    in_dim: int
    points: int = 0


@torch.no_grad()
def pack_resmlp_cuda(weights: ResmlpWeights, kernel: str, points: int = 0) -> PackedResmlpCuda:
    """Rounds weights to fp16 and orders them for a kernel; the result is on the weights' device.

    The ordering is done on the CPU, so this waits for the device: do it once a change of weights, as
    `nn.fused.FusedResmlp` does.

    Args:
        weights: float32, on one device.
        kernel: "wgmma", "turns" or "mma".
        points: K of the beams where the kernel is to encode them itself, 0 where it is given the input.

    Raises:
        TypeError: the weights are not float32.
        ValueError: an unknown kernel, an input that is no encoding of so many points, a width or a number of
            outputs that the kernel doesn't take, or a weight beyond fp16's range.
    """
    if kernel not in KERNELS or kernel == "chain":
        raise ValueError(f"pack_resmlp_cuda: kernel must be 'wgmma', 'turns' or 'mma', got {kernel!r}")
    width, in_dim = weights.head.shape
    out_dim, layers = weights.tail.shape[0], len(weights.body)
    if weights.head.dtype != torch.float32:
        raise TypeError(f"pack_resmlp_cuda: weights must be torch.float32, got {weights.head.dtype}")
    layout = _layout(kernel)
    depth = _depth(layout, width)
    if not _takes(kernel, width, out_dim):
        raise ValueError(
            f"pack_resmlp_cuda: {kernel} takes widths {_WIDTHS[layout]} and at most {depth} outputs, "
            f"got width {width} and {out_dim} outputs"
        )
    if (points and in_dim % (3 * points)) or (points and in_dim // (3 * points) % 2 == 0):
        raise ValueError(f"pack_resmlp_cuda: {in_dim} inputs are no encoding of points={points}")
    body = torch.stack(weights.body) if layers else weights.head.new_empty(0, width, width)
    halves = {"head": weights.head, "body": body, "tail": weights.tail}
    for name, value in halves.items():
        half = value.detach().cpu().half().contiguous()
        if not half.isfinite().all():
            raise ValueError(f"pack_resmlp_cuda: {name} has values that fp16 can't hold (beyond 65504)")
        halves[name] = half.view(torch.int16)
    places = in_dim + (-3 * points % 4)
    chunks = -(-places // depth) + layers * (width // depth) + 1
    packed = torch.zeros(chunks, width * depth, dtype=torch.int16)
    native.launch(
        "resmlp_pack", halves, {"packed": packed},
        in_dim=in_dim, out_dim=out_dim, width=width, layers=layers, layout=_LAYOUTS.index(layout),
        coordinates=3 * points,
    )  # fmt: skip
    device = weights.head.device
    bias = torch.stack(weights.body_bias) if layers else weights.head.new_empty(0, width)
    return PackedResmlpCuda(
        kernel, packed.to(device), bias.detach().clone(), weights.tail_bias.detach().clone(), in_dim, points
    )


def _resmlp_fused(
    x: Tensor, frame_bias: Tensor, weights: Tensor, body_bias: Tensor, tail_bias: Tensor, kernel: str,
    pixels: bool,
) -> Tensor:  # fmt: skip
    out = _resmlp_fused_fake(x, frame_bias, weights, body_bias, tail_bias, kernel, pixels)
    parameters = {"weights": weights, "body_bias": body_bias, "tail_bias": tail_bias}
    beams = {"points": 0, "near": 0.0, "far": 0.0, "scale": 1.0}
    given = {"input": _aligned(x), "origins": None, "directions": None}
    _launch(given, frame_bias, parameters, kernel, pixels, x.shape[2], beams, out)
    return out


def _resmlp_fused_fake(
    x: Tensor, frame_bias: Tensor, weights: Tensor, body_bias: Tensor, tail_bias: Tensor, kernel: str,
    pixels: bool,
) -> Tensor:  # fmt: skip
    return x.new_empty(x.shape[0], x.shape[1], 4 if pixels else tail_bias.shape[0])


def _resmlp_beams(
    origins: Tensor, directions: Tensor, frame_bias: Tensor, weights: Tensor, body_bias: Tensor,
    tail_bias: Tensor, kernel: str, pixels: bool, near: float, far: float, points: int, frequencies: int,
    scale: float,
) -> Tensor:  # fmt: skip
    out = _resmlp_fused_fake(origins, frame_bias, weights, body_bias, tail_bias, kernel, pixels)
    parameters = {"weights": weights, "body_bias": body_bias, "tail_bias": tail_bias}
    beams = {"points": points, "near": near, "far": far, "scale": scale}
    given = {"input": None, "origins": origins, "directions": directions}
    places = BeamEncoding(near, far, points, frequencies, scale).places
    _launch(given, frame_bias, parameters, kernel, pixels, places, beams, out)
    return out


def _resmlp_beams_fake(
    origins: Tensor, directions: Tensor, frame_bias: Tensor, weights: Tensor, body_bias: Tensor,
    tail_bias: Tensor, kernel: str, pixels: bool, near: float, far: float, points: int, frequencies: int,
    scale: float,
) -> Tensor:  # fmt: skip
    return _resmlp_fused_fake(origins, frame_bias, weights, body_bias, tail_bias, kernel, pixels)


def _aligned(tensor: Tensor) -> Tensor:
    """The kernels read 16 bytes at a time; a view may begin anywhere."""
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def _launch(
    given: dict[str, Tensor | None], frame_bias: Tensor, parameters: dict[str, Tensor], kernel: str,
    pixels: bool, in_dim: int, beams: dict[str, float], out: Tensor,
) -> None:  # fmt: skip
    frames, rays = out.shape[:2]
    width, layers = frame_bias.shape[1], parameters["body_bias"].shape[0]
    rows, blocks = launch_grid(out.device, kernel, width, frames * rays)
    scratch = parameters["weights"].new_empty(blocks * rows * width)
    native.launch(
        f"resmlp_{_layout(kernel)}",
        {"head_bias": _aligned(frame_bias), **given, **parameters},
        {"first": scratch, "out": None if pixels else out, "pixels": out if pixels else None, "dump": None},
        {"weights": torch.int16, "first": torch.int16},
        rays=frames * rays, rays_per_frame=max(rays, 1), in_dim=in_dim,
        out_dim=parameters["tail_bias"].shape[0], width=width, layers=layers, dump_layer=-1, rows=rows,
        blocks=blocks, turns=int(kernel == "turns"), **beams,
    )  # fmt: skip


def launch_grid(device: torch.device, kernel: str, width: int, rays: int) -> tuple[int, int]:
    """Rays of a thread block, and thread blocks: about as many as run at once, each walks its tiles."""
    count = torch.cuda.get_device_properties(device).multi_processor_count
    if _layout(kernel) == "wgmma":
        return 128, count
    # At width 256 the large tile takes 160 KB of shared memory; 8.6, 8.9 and 12.x give a block 99 KB.
    capability = torch.cuda.get_device_capability(device)
    large = width < 256 or capability in ((8, 0), (8, 7)) or 9 <= capability[0] <= 11
    # Small batches are cut finer, so that every multiprocessor has work.
    rows = 128 if large and rays > 64 * count else 64
    return rows, count * (1 if width == 256 else 2)


# Without native.register: there is no CPU kernel and no gradient, and the reference is `ops.resmlp`'s.
native.LIBRARY.define(
    "resmlp_fused(Tensor x, Tensor frame_bias, Tensor weights, Tensor body_bias, Tensor tail_bias,"
    " str kernel, bool pixels) -> Tensor"
)
native.LIBRARY.impl("resmlp_fused", _resmlp_fused, "CUDA")
torch.library.register_fake("nldf::resmlp_fused", _resmlp_fused_fake, lib=native.LIBRARY)
native.LIBRARY.define(
    "resmlp_beams(Tensor origins, Tensor directions, Tensor frame_bias, Tensor weights, Tensor body_bias,"
    " Tensor tail_bias, str kernel, bool pixels, float near, float far, int points, int frequencies,"
    " float scale) -> Tensor"
)
native.LIBRARY.impl("resmlp_beams", _resmlp_beams, "CUDA")
torch.library.register_fake("nldf::resmlp_beams", _resmlp_beams_fake, lib=native.LIBRARY)
