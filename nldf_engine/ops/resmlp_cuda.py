"""The residual MLP of NLDF (section 3.1) on CUDA, without gradient: three ways to the same numbers.

- "wgmma": one kernel for compute capability 9.0, width 256 (csrc/resmlp_wgmma_cuda.cu).
- "mma": one kernel for 8.0 and newer, widths 32, 64, 128 and 256 (csrc/resmlp_mma_cuda.cu).
- "chain": `ResmlpChain`, a matrix product a layer through torch: what the kernels are checked and timed
  against, and the way for all other sizes.

Weights and activations are rounded to fp16, sums are fp32; inputs, biases and outputs are float32. None of
the three has been measured on a GPU yet.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.resmlp import ResmlpWeights

KERNELS = ("wgmma", "mma", "chain")
# Most outputs, columns of input a chunk of the weight stream covers, and its place in csrc/resmlp_pack.h.
_OUTPUTS = {"wgmma": 64, "mma": 32}
_DEPTH = {"wgmma": 64, "mma": 32}
_LAYOUT = {"wgmma": 1, "mma": 0}
_WIDTHS = {"wgmma": (256,), "mma": (32, 64, 128, 256)}
_MOST_PIXEL_OUTPUTS = 16


def resmlp_kernel(device: torch.device | str, width: int = 256, out_dim: int = 13) -> str:
    """Which way a residual MLP takes on a CUDA device: "wgmma", "mma" or "chain".

    The compute capability and the architectures that the module was built for decide; the environment
    variable NLDF_RESMLP names another way, for measurements.

    Args:
        device: a CUDA device.
        width: W of the network.
        out_dim: its outputs.

    Raises:
        ValueError: no CUDA device, or NLDF_RESMLP names no way.
    """
    device = torch.device(device)
    if device.type != "cuda":
        raise ValueError(f"resmlp_kernel: device must be a CUDA device, got {device}")
    wanted = os.environ.get("NLDF_RESMLP", "")
    if wanted and wanted not in KERNELS:
        raise ValueError(f"resmlp_kernel: NLDF_RESMLP must be one of {', '.join(KERNELS)}, got {wanted!r}")
    if wanted:
        return wanted
    capability = torch.cuda.get_device_capability(device)
    archs = native.backends()["cuda_archs"]
    hopper = capability == (9, 0) and any(arch.startswith("90a") for arch in archs)
    if hopper and _takes("wgmma", width, out_dim):
        return "wgmma"
    if archs and capability >= (8, 0) and _takes("mma", width, out_dim):
        return "mma"
    return "chain"


def _takes(kernel: str, width: int, out_dim: int) -> bool:
    return width in _WIDTHS[kernel] and out_dim <= _OUTPUTS[kernel]


@dataclass(frozen=True)
class PackedResmlpCuda:
    """Weights as one fused kernel reads them; made by `pack_resmlp_cuda`.

    Args:
        kernel: "wgmma" or "mma".
        weights: [chunks, W * depth] int16, the bits of fp16: all layers in the order of use.
        body_bias: [2B, W] float32.
        tail_bias: [out] float32.
        in_dim: columns of the input.
    """

    kernel: str
    weights: Tensor
    body_bias: Tensor
    tail_bias: Tensor
    in_dim: int


@torch.no_grad()
def pack_resmlp_cuda(weights: ResmlpWeights, kernel: str) -> PackedResmlpCuda:
    """Rounds weights to fp16 and orders them for a kernel; the result is on the weights' device.

    The ordering is done on the CPU, so this waits for the device: do it once a change of weights, as
    `FusedResmlp` does.

    Args:
        weights: float32, on one device.
        kernel: "wgmma" or "mma".

    Raises:
        TypeError: the weights are not float32.
        ValueError: an unknown kernel, a width or a number of outputs that it doesn't take, or a weight
            beyond fp16's range.
    """
    if kernel not in _LAYOUT:
        raise ValueError(f"pack_resmlp_cuda: kernel must be 'wgmma' or 'mma', got {kernel!r}")
    width, in_dim = weights.head.shape
    out_dim, layers = weights.tail.shape[0], len(weights.body)
    if weights.head.dtype != torch.float32:
        raise TypeError(f"pack_resmlp_cuda: weights must be torch.float32, got {weights.head.dtype}")
    if not _takes(kernel, width, out_dim):
        raise ValueError(
            f"pack_resmlp_cuda: {kernel} takes widths {_WIDTHS[kernel]} and at most {_OUTPUTS[kernel]} "
            f"outputs, got width {width} and {out_dim} outputs"
        )
    body = torch.stack(weights.body) if layers else weights.head.new_empty(0, width, width)
    halves = {"head": weights.head, "body": body, "tail": weights.tail}
    for name, value in halves.items():
        half = value.detach().cpu().half().contiguous()
        if not half.isfinite().all():
            raise ValueError(f"pack_resmlp_cuda: {name} has values that fp16 can't hold (beyond 65504)")
        halves[name] = half.view(torch.int16)
    depth = _DEPTH[kernel]
    chunks = -(-in_dim // depth) + layers * (width // depth) + 1
    packed = torch.zeros(chunks, width * depth, dtype=torch.int16)
    native.launch(
        "resmlp_pack", halves, {"packed": packed},
        in_dim=in_dim, out_dim=out_dim, width=width, layers=layers, layout=_LAYOUT[kernel],
    )  # fmt: skip
    device = weights.head.device
    bias = torch.stack(weights.body_bias) if layers else weights.head.new_empty(0, width)
    return PackedResmlpCuda(
        kernel, packed.to(device), bias.detach().clone(), weights.tail_bias.detach().clone(), in_dim
    )


def _resmlp_fused(
    x: Tensor, frame_bias: Tensor, weights: Tensor, body_bias: Tensor, tail_bias: Tensor, kernel: str,
    pixels: bool,
) -> Tensor:  # fmt: skip
    frames, rays, in_dim = x.shape
    width = frame_bias.shape[1]
    out = _resmlp_fused_fake(x, frame_bias, weights, body_bias, tail_bias, kernel, pixels)
    rows, blocks = _grid(x.device, kernel, width, frames * rays)
    # The kernels read 16 bytes at a time; a view may begin anywhere.
    x, frame_bias = (t if t.data_ptr() % 16 == 0 else t.clone() for t in (x, frame_bias))
    native.launch(
        f"resmlp_{kernel}",
        {
            "input": x, "weights": weights, "head_bias": frame_bias, "body_bias": body_bias,
            "tail_bias": tail_bias,
        },
        {
            "first": weights.new_empty(blocks * rows * width), "out": None if pixels else out,
            "pixels": out if pixels else None, "dump": None,
        },
        rays=frames * rays, rays_per_frame=max(rays, 1), in_dim=in_dim, out_dim=tail_bias.shape[0],
        width=width, layers=body_bias.shape[0], dump_layer=-1, rows=rows, blocks=blocks,
    )  # fmt: skip
    return out


def _resmlp_fused_fake(
    x: Tensor, frame_bias: Tensor, weights: Tensor, body_bias: Tensor, tail_bias: Tensor, kernel: str,
    pixels: bool,
) -> Tensor:  # fmt: skip
    return x.new_empty(x.shape[0], x.shape[1], 4 if pixels else tail_bias.shape[0])


def _grid(device: torch.device, kernel: str, width: int, rays: int) -> tuple[int, int]:
    """Rays of a thread block, and thread blocks: about as many as run at once, each walks its tiles."""
    count = torch.cuda.get_device_properties(device).multi_processor_count
    if kernel == "wgmma":
        return 128, count
    # At width 256 the large tile takes 160 KB of shared memory; 8.6, 8.9 and 12.x give a block 99 KB.
    capability = torch.cuda.get_device_capability(device)
    large = width < 256 or capability in ((8, 0), (8, 7)) or 9 <= capability[0] <= 11
    # Small batches are cut finer, so that every multiprocessor has work.
    rows = 128 if large and rays > 64 * count else 64
    return rows, count * (1 if width == 256 else 2)


# Without native.register: there is no CPU kernel and no gradient, and the twin is `ops.resmlp`'s.
native.LIBRARY.define(
    "resmlp_fused(Tensor x, Tensor frame_bias, Tensor weights, Tensor body_bias, Tensor tail_bias,"
    " str kernel, bool pixels) -> Tensor"
)
native.LIBRARY.impl("resmlp_fused", _resmlp_fused, "CUDA")
torch.library.register_fake("nldf::resmlp_fused", _resmlp_fused_fake, lib=native.LIBRARY)


class FusedResmlp:
    """Runs a residual MLP on CUDA and keeps its packed weights until the parameters change.

    Changes are seen by torch's version counters. Fused optimisers, and writing through `parameter.data`,
    leave those as they were: call `forget()` after such a change.

    Args:
        kernel: "wgmma", "mma" or "chain"; None lets `resmlp_kernel` choose.

    Example:
        >>> run = FusedResmlp()
        >>> run.kernel is None
        True
    """

    def __init__(self, kernel: str | None = None) -> None:
        if kernel is not None and kernel not in KERNELS:
            raise ValueError(f"FusedResmlp: kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")
        self.kernel = kernel
        self._kept: tuple[list[object], ResmlpWeights, PackedResmlpCuda | ResmlpChain] | None = None

    def packed(self, weights: ResmlpWeights) -> PackedResmlpCuda | ResmlpChain:
        """The packed weights (or the chain), made anew where a parameter has changed."""
        parts = (weights.head, *weights.body, *weights.body_bias, weights.tail, weights.tail_bias)
        kernel = self.kernel or resmlp_kernel(
            weights.head.device, weights.head.shape[0], weights.tail.shape[0]
        )
        state: list[object] = [kernel, *((p.data_ptr(), p._version, p.device) for p in parts)]
        if self._kept is None or self._kept[0] != state:
            made = ResmlpChain(weights) if kernel == "chain" else pack_resmlp_cuda(weights, kernel)
            # The weights are kept too: so their addresses are not given to others.
            self._kept = (state, weights, made)
        return self._kept[2]

    def forget(self) -> None:
        """Packs anew at the next call, whatever the counters say."""
        self._kept = None

    @torch.no_grad()
    def __call__(
        self, x: Tensor, frame_bias: Tensor, weights: ResmlpWeights, *, pixels: bool = False
    ) -> Tensor:
        """The network on the rays of F frames; no gradient.

        Args:
            x: [F, P, in] float32, on the weights' device.
            frame_bias: [F, W] float32: the head's bias plus the frame code's share.
            weights: the parameters, float32.
            pixels: give [F, P, 4] instead: (A sum_i c_i, A) of the M segments' colours c_i, the first 3M
                outputs, and the opacity A, the sigmoid of the last one. Takes up to 16 outputs.

        Returns:
            [F, P, out] float32, with no activation, or the pixels.

        Raises:
            TypeError, ValueError: an argument doesn't fit.
            MissingBackend: the kernel isn't built.
        """
        check = Checker("FusedResmlp")
        check.tensor("x", x, ("F", "P", "in"))
        check.tensor("frame_bias", frame_bias, ("F", "W"))
        check.tensor("head", weights.head.contiguous(), ("W", "in"))
        check.tensor("tail", weights.tail, ("out", "W"))
        out_dim = weights.tail.shape[0]
        if self.kernel != "chain" and x.device.type != "cuda":
            raise ValueError(
                f"FusedResmlp: x must be on a CUDA device, got {x.device}; on the CPU call ops.resmlp"
            )
        if pixels and (out_dim > _MOST_PIXEL_OUTPUTS or out_dim % 3 != 1):
            raise ValueError(f"FusedResmlp: pixels need 3M + 1 <= 16 outputs, got {out_dim}")
        made = self.packed(weights)
        if isinstance(made, ResmlpChain):
            out = made(x, frame_bias)
            return sum_segments(out) if pixels else out
        return torch.ops.nldf.resmlp_fused(
            x, frame_bias, made.weights, made.body_bias, made.tail_bias, made.kernel, pixels
        )


def sum_segments(out: Tensor) -> Tensor:
    """[..., 4] pixels of outputs [..., 3M + 1]: (A sum_i c_i, A), A the sigmoid of the last, eq. (1)."""
    opacity = torch.sigmoid(out[..., -1:])
    colors = out[..., :-1].unflatten(-1, (-1, 3)).sum(-2)
    return torch.cat((colors * opacity, opacity), -1)


class ResmlpChain:
    """The network as a chain of matrix products, a chunk of rays at a time.

    Chunks small enough keep a layer's activations in the GPU's second-level cache; a CUDA graph takes the
    launches off the CPU. The biases of fc2 are moved into what reads the trunk, so that fc2 and the residual
    are one product: with s_b the sum of those before block b, the trunk holds x_b - s_b, and fc1's bias
    becomes b1 + W1 s_b. On the CPU, or with `graph=False`, the same products run one by one.

    Args:
        weights: float32 parameters; a copy is made in `dtype`.
        dtype: torch.float16, or torch.float32 for tests.
        chunk: rays at a time.
        graph: record a CUDA graph; by default on CUDA alone.

    Example:
        >>> eye = torch.eye(16)
        >>> weights = ResmlpWeights(eye, (eye, eye), (torch.zeros(16),) * 2, eye[:3], torch.zeros(3))
        >>> ResmlpChain(weights, dtype=torch.float32)(torch.ones(1, 2, 16), torch.zeros(1, 16))[0, 0]
        tensor([3., 3., 3.])
    """

    @torch.no_grad()
    def __init__(
        self, weights: ResmlpWeights, *, dtype: torch.dtype = torch.float16, chunk: int = 16384,
        graph: bool | None = None,
    ) -> None:  # fmt: skip
        self.device, self.dtype = weights.head.device, dtype
        self.chunk = chunk
        self.graph = self.device.type == "cuda" if graph is None else graph
        if self.graph and self.device.type != "cuda":
            raise ValueError(f"ResmlpChain: graph needs weights on CUDA, got {self.device}")
        shift = torch.zeros_like(weights.tail[0], dtype=torch.float64)
        body, biases = [], []
        for i, (weight, bias) in enumerate(zip(weights.body, weights.body_bias, strict=True)):
            body.append(weight.detach().to(dtype).t())
            if i % 2 == 0:
                biases.append((bias + weight.double() @ shift).to(dtype))
            else:
                shift = shift + bias
        self._head = weights.head.detach().to(dtype).t()
        self._body, self._biases = body, biases
        self._tail = weights.tail.detach().to(dtype).t()
        self._tail_bias = (weights.tail_bias + weights.tail.double() @ shift).to(dtype)
        self._recorded: tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor] | None = None

    def _products(self, x: Tensor, bias: Tensor) -> Tensor:
        first = torch.addmm(bias, x, self._head).relu_()
        y = first.clone() if self._body else first
        for i, bias_1 in enumerate(self._biases):
            hidden = torch.addmm(bias_1, y, self._body[2 * i]).relu_()
            y.addmm_(hidden, self._body[2 * i + 1])
        return torch.addmm(self._tail_bias, y.add_(first) if self._body else y, self._tail)

    def _record(self) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]:
        x = torch.zeros(self.chunk, self._head.shape[0], dtype=self.dtype, device=self.device)
        bias = torch.zeros(self._head.shape[1], dtype=self.dtype, device=self.device)
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):  # cuBLAS makes its workspaces before the recording
            self._products(x, bias)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = self._products(x, bias)
        return graph, x, bias, out

    @torch.no_grad()
    def __call__(self, x: Tensor, frame_bias: Tensor) -> Tensor:
        """[F, P, out] float32 of x [F, P, in] and frame_bias [F, W], both float32 on the weights' device."""
        out = x.new_empty(*x.shape[:2], self._tail.shape[1])
        if self.graph and self._recorded is None:
            self._recorded = self._record()
        for frame in range(len(x)):
            for begin in range(0, x.shape[1], self.chunk):
                piece = x[frame, begin : begin + self.chunk]
                target = out[frame, begin : begin + self.chunk]
                if self._recorded is None:
                    target.copy_(self._products(piece.to(self.dtype), frame_bias[frame].to(self.dtype)))
                    continue
                graph, x_in, bias_in, result = self._recorded
                x_in[: len(piece)].copy_(piece)
                bias_in.copy_(frame_bias[frame])
                graph.replay()
                target.copy_(result[: len(piece)])
        return out
