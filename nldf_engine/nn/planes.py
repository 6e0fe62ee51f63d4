"""Modules that are evaluated by the fused operation over planes, and their packed weights."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.nn.fused import PackedWeights
from nldf_engine.ops import native
from nldf_engine.ops.packed_planes import PORTRAIT_WIDTHS, fits_planes_half

# Below this many rays a frame, groups of rays would be mostly empty.
FEWEST_RAYS = 16


class PlanesModule(nn.Module, ABC):
    """A module whose arithmetic `planes_network` describes: a subclass implements it and sets `backend`.

    Attributes:
        backend: "native" or "reference".
        precision: "fp32"; "int16" or "int8", on the CPU: the fused operation's products in integers where
            there are no gradients; or "fp16": on CUDA the fused operation, which rounds to fp16.
    """

    backend: str
    precision: str = "fp32"

    def __init__(self) -> None:
        super().__init__()
        self._packed: PackedWeights[ops.PackedPlanes] = PackedWeights()

    @abstractmethod
    def planes_network(self) -> ops.PlanesNetwork:
        """The parameters as `ops.planes` takes them."""

    def fusable(self, *inputs: Tensor, network: ops.PlanesNetwork | None = None) -> bool:
        """Whether the fused operation can stand in for the layers: without gradients, on the CPU, or on CUDA
        where `precision` is "fp16" and the kernels are there and take the sizes.

        Args:
            inputs: of the operation.
            network: `planes_network()`, where the caller has it.
        """
        tensors = (*inputs, *self.parameters())
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return False
        return self._all_on_cpu(tensors) or self._on_cuda(tensors, network)

    def trains_fused(self, *inputs: Tensor) -> bool:
        """Whether everything is where the fused operation with gradients runs, and it is not switched off."""
        tensors, device = (*inputs, *self.parameters()), inputs[0].device
        fits = all(t.device == device and t.dtype is torch.float32 for t in tensors)
        built = device.type == "cpu" or (device.type == "cuda" and native.backends()["cuda"])
        return fits and built and native.use_native("planes", self.backend)

    def _all_on_cpu(self, tensors: tuple[Tensor, ...]) -> bool:
        fits = all(t.is_cpu and t.dtype is torch.float32 for t in tensors)
        return fits and native.use_native("planes", self.backend)

    def _on_cuda(self, tensors: tuple[Tensor, ...], network: ops.PlanesNetwork | None = None) -> bool:
        device = tensors[-1].device
        if device.type != "cuda" or self.precision != "fp16" or not native.use_native("planes", self.backend):
            return False
        if any(t.device != device or t.dtype != torch.float32 for t in tensors):
            return False
        if not native.backends()["cuda"] or fits_planes_half(network or self.planes_network()):
            return False
        return torch.cuda.get_device_capability(device) >= (8, 0)

    def kernel(self, device: torch.device, backend: str = "native") -> str:
        """What computes it without gradients: "torch", the CPU's instruction set, or CUDA's "planes".

        "missing" where the compiled module is, which running it says in more words.
        """
        if not native.use_native("planes", backend):
            return "torch"
        if device.type == "cpu":
            return native.cpu_isa() or "missing"
        return "planes" if self._on_cuda(tuple(self.parameters())) else "torch"

    @staticmethod
    def fits_frame(network: ops.PlanesNetwork) -> bool:
        """Whether a fusable module's `planes_network` can be part of a frame in one pass."""
        return network.box.device.type == "cpu" or network.layers[0][0].shape[0] <= PORTRAIT_WIDTHS[-1]

    def packed(self, network: ops.PlanesNetwork | None = None) -> ops.PackedPlanes:
        """The network packed for the kernel; in eval mode without gradients it is kept between calls."""
        network = network or self.planes_network()
        tensors = _tensors(network)
        recording = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        precision = self.precision
        return self._packed.get(
            tensors, lambda: ops.pack_planes(network, precision), precision,
            keep=not (self.training or recording),
        )  # fmt: skip

    def train(self, mode: bool = True) -> PlanesModule:
        """As `nn.Module.train`; drops the packed network."""
        self._packed.forget()
        return super().train(mode)


def _tensors(network: ops.PlanesNetwork) -> list[Tensor]:
    """All that the operation reads of a network."""
    layers = (*network.warp_layers, *network.layers)
    tensors = [network.box, network.warp_table, *network.tables]
    return tensors + [t for layer in layers for t in layer if t is not None]
