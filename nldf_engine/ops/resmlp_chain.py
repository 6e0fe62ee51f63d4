"""The residual MLP of NLDF (section 3.1) as a chain of matrix products, for CUDA.

What the fused kernels of `resmlp_cuda` are checked and timed against, and the way for sizes that they don't
take.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops.specs import ResmlpWeights


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
