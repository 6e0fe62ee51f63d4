"""The residual MLP of NLDF (section 3.1, after R2L): head, residual blocks, one body skip, tail."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.nn.fused import FusedResmlp, PackedWeights
from nldf_engine.ops import native
from nldf_engine.ops.beams import BeamEncoding
from nldf_engine.ops.resmlp_cuda import resmlp_kernel


class ResidualBlock(nn.Module):
    """x + fc2(relu(fc1(x))), with no activation after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to [..., width]."""
        return torch.add(x, self.fc2(F.relu(self.fc1(x), inplace=True)))


class ResMLP(nn.Module):
    """A deep residual MLP of `depth` linear layers: head, (depth - 2) / 2 blocks, tail.

    y = relu(head(x)); out = tail(y + blocks(y)).

    Args:
        in_dim: size of the input; with a code, of the code too (its columns come last).
        out_dim: size of the output; no activation follows.
        width: size of the trunk.
        depth: number of linear layers, even and at least 2 (88 in the paper).
        code_dim: how many of the input's columns are the per-frame code.

    Raises:
        ValueError: a size is not positive, or `depth` is odd or below 2.
    """

    def __init__(
        self, in_dim: int, out_dim: int, width: int = 256, depth: int = 88, code_dim: int = 0
    ) -> None:
        super().__init__()
        if depth < 2 or depth % 2:
            raise ValueError(f"ResMLP: depth must be even and at least 2, got {depth}")
        if min(in_dim - code_dim, out_dim, width) < 1 or code_dim < 0:
            raise ValueError(
                f"ResMLP: sizes must be positive, got in_dim={in_dim} (of it code_dim={code_dim}), "
                f"out_dim={out_dim}, width={width}"
            )
        self.code_dim = code_dim
        self.head = nn.Linear(in_dim, width)
        blocks = [ResidualBlock(width) for _ in range((depth - 2) // 2)]
        self.blocks = nn.ModuleList(blocks)
        self.tail = nn.Linear(width, out_dim)
        # "fp32"; "int16" or "int8", the body's products in integers, on the CPU; "fp16", fused, on CUDA.
        self.precision = "fp32"
        # Gradients by the fused operation: it keeps no activations, and computes them a second time.
        self.recompute = False
        self._packed: PackedWeights[ops.PackedResmlp] = PackedWeights()
        self._cuda = FusedResmlp()
        # Each block adds a share of the variance; scaled so, the sum's does not grow with the depth.
        with torch.no_grad():
            for block in blocks:
                block.fc2.weight.mul_(len(blocks) ** -0.5)

    def frame_bias(self, code: Tensor | None) -> Tensor:
        """[F, width] (or [width] without a code): the first layer's bias for codes [F, code_dim]."""
        if code is None or not self.code_dim:
            return self.head.bias
        return F.linear(code, self.head.weight[:, -self.code_dim :], self.head.bias)

    def weights(self) -> ops.ResmlpWeights:
        """The parameters as `ops.resmlp` takes them; the head's without the code's columns."""
        blocks = [cast(ResidualBlock, block) for block in self.blocks]
        layers = [layer for block in blocks for layer in (block.fc1, block.fc2)]
        return ops.ResmlpWeights(
            head=self.head.weight[:, : self.head.in_features - self.code_dim],
            body=tuple(layer.weight for layer in layers),
            body_bias=tuple(layer.bias for layer in layers),
            tail=self.tail.weight,
            tail_bias=self.tail.bias,
        )

    def packed(self) -> ops.PackedResmlp:
        """The weights packed for the kernel; in eval mode without gradients they are kept between calls."""
        keep = not (self.training or self._recording())
        precision = self.precision
        return self._packed.get(
            list(self.parameters()),
            lambda: ops.pack_resmlp(self.weights(), precision),
            precision,
            keep=keep,
        )

    def train(self, mode: bool = True) -> ResMLP:
        """As `nn.Module.train`; drops the packed weights."""
        self._forget()
        return super().train(mode)

    def _forget(self) -> None:
        self._packed.forget()
        self._cuda.forget()

    def forward(self, x: Tensor, code: Tensor | None = None, backend: str = "native") -> Tensor:
        """[F, P, out_dim] of x [F, P, in_dim - code_dim] and codes [F, code_dim].

        Without a code any leading shape [..., in_dim] is taken. "native" is the fused operation on the CPU,
        and the fused kernels on CUDA in precision "fp16"; everything else is torch's layers, and so are
        recorded gradients unless `recompute` is set. `kernel` says which it will be.
        """
        recording = self._recording(x, code)
        bias = self.frame_bias(code)
        if self.kernel(x.device, backend) == "torch" or (
            recording and (x.device.type != "cpu" or not self.recompute)
        ):
            return self._layers(x, bias)
        return self._fused(x, bias)

    def forward_beams(
        self, origins: Tensor, directions: Tensor, encoding: BeamEncoding, code: Tensor | None = None,
        backend: str = "native",
    ) -> Tensor:  # fmt: skip
        """[F, P, out_dim] of the encoded beams of rays [F, P, 3] under codes [F, code_dim].

        The fused kernels on CUDA encode beams as they go; everything else is given `ops.encode_beams`'.
        """
        recording = self._recording(origins, directions, code)
        if origins.device.type != "cuda" or recording or self.kernel(origins.device, backend) == "torch":
            return self(encoding.encode(origins, directions, backend), code, backend)
        bias = self.frame_bias(code).expand(len(origins), -1).contiguous()
        return self._cuda.beams(origins, directions, encoding, bias, self.weights())

    def _recording(self, *inputs: Tensor | None) -> bool:
        """Whether gradients are recorded; then packed weights are dropped, for they are about to change."""
        recording = torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in (*inputs, *self.parameters())
        )
        if recording:
            self._forget()
        return recording

    def kernel(self, device: torch.device, backend: str = "native") -> str:
        """What computes it without gradients: "torch", the CPU's instruction set, or CUDA's kernel.

        "missing" where the compiled module is, which running it says in more words.
        """
        if not native.use_native("ResMLP", backend):
            return "torch"
        if device.type == "cpu":
            return native.cpu_isa() or "missing"
        if device.type != "cuda" or self.precision != "fp16":
            return "torch"
        return resmlp_kernel(device, self.head.out_features, self.tail.out_features)

    def _fused(self, x: Tensor, bias: Tensor) -> Tensor:
        rays = (x if bias.dim() > 1 else x.reshape(1, -1, x.shape[-1])).contiguous()
        bias = bias.reshape(-1, bias.shape[-1]).contiguous()
        if x.device.type == "cuda":
            return self._cuda(rays, bias, self.weights()).view(*x.shape[:-1], self.tail.out_features)
        out = ops.resmlp(rays, bias, self.weights(), packed=self.packed())
        return out.view(*x.shape[:-1], self.tail.out_features)

    def _layers(self, x: Tensor, bias: Tensor) -> Tensor:
        weight = self.head.weight[:, : self.head.in_features - self.code_dim]
        shape = x.shape[:-1]
        if bias.dim() == 1:
            first = F.linear(x.reshape(-1, x.shape[-1]), weight, bias)
        else:
            first = torch.matmul(x, weight.t()) + bias[:, None]
        # From here on rows are rays: in-place activations on views would be copied by autograd.
        first = F.relu(first, inplace=True).reshape(-1, self.head.out_features)
        y = first
        for block in self.blocks:
            y = block(y)
        out = self.tail(y + first) if len(self.blocks) else self.tail(y)
        return out.view(*shape, self.tail.out_features)

    @property
    def macs(self) -> int:
        """Multiply-adds a ray, weights only, the code's share left out (it is paid once a frame)."""
        layers = [m for m in self.modules() if isinstance(m, nn.Linear)]
        total = sum(layer.in_features * layer.out_features for layer in layers)
        return total - self.code_dim * self.head.out_features
