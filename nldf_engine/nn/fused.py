"""Modules' way to the fused kernels: weights are packed once, and kept until a parameter changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import astuple
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from nldf_engine.ops.beams import MOST_FREQUENCIES, BeamEncoding
from nldf_engine.ops.check import Checker
from nldf_engine.ops.resmlp_chain import ResmlpChain, sum_segments
from nldf_engine.ops.resmlp_cuda import (
    KERNELS,
    MOST_PIXEL_OUTPUTS,
    PackedResmlpCuda,
    pack_resmlp_cuda,
    resmlp_kernel,
)
from nldf_engine.ops.specs import ResmlpWeights

T = TypeVar("T")


class PackedWeights(Generic[T]):
    """Keeps what was packed from parameters until one of them changes.

    A change is seen by a tensor's address, dtype, device and torch's version counter. Fused optimisers and
    writes through `parameter.data` leave the counter as it was: whoever may have made such a change calls
    `forget`. Modules do so in `train` and `eval`, and in every call that records gradients.

    A copy of a module starts with nothing kept.

    Example:
        >>> weight, kept = torch.ones(2), PackedWeights()
        >>> kept.get([weight], lambda: weight * 2), kept.get([weight], lambda: weight * 3)
        (tensor([2., 2.]), tensor([2., 2.]))
        >>> kept.get([weight.mul_(2)], lambda: weight * 3)
        tensor([6., 6.])
    """

    def __init__(self) -> None:
        self._kept: tuple[list[Hashable], list[Tensor], T] | None = None

    def get(
        self, parameters: Sequence[Tensor], pack: Callable[[], T], *settings: Hashable, keep: bool = True
    ) -> T:
        """What `pack` makes of the parameters, or what it made before where nothing has changed since.

        Args:
            parameters: all tensors that `pack` reads.
            pack: makes the packed weights.
            settings: what else the result depends on, such as a precision.
            keep: False while parameters are about to change: then nothing is kept, nor used.
        """
        if not keep or any(p.is_inference() for p in parameters):  # these have no version counter
            self.forget()
            return pack()
        state: list[Hashable] = [
            *settings, *((p.data_ptr(), p._version, p.dtype, p.device) for p in parameters)
        ]  # fmt: skip
        kept = self._kept  # another thread may forget it at any moment
        if kept is None or kept[0] != state:
            # The parameters are kept as well, so that no other tensor gets their addresses.
            kept = self._kept = (state, list(parameters), pack())
        return kept[2]

    def forget(self) -> None:
        """Packs again at the next `get`, whatever the counters say."""
        self._kept = None

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedWeights[T]:
        return PackedWeights()


class FusedResmlp:
    """Runs a residual MLP on CUDA and keeps its packed weights until the parameters change.

    Call `forget()` after a change that torch's version counters don't show (see `PackedWeights`).

    Args:
        kernel: one of KERNELS; None lets `resmlp_kernel` choose.

    Example:
        >>> run = FusedResmlp()
        >>> run.kernel is None
        True
    """

    def __init__(self, kernel: str | None = None) -> None:
        if kernel is not None and kernel not in KERNELS:
            raise ValueError(f"FusedResmlp: kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")
        self.kernel = kernel
        self._kept: PackedWeights[PackedResmlpCuda | ResmlpChain] = PackedWeights()

    def packed(self, weights: ResmlpWeights, points: int = 0) -> PackedResmlpCuda | ResmlpChain:
        """The packed weights (or the chain), made again where a parameter has changed."""
        parts = (weights.head, *weights.body, *weights.body_bias, weights.tail, weights.tail_bias)
        kernel = self.kernel or resmlp_kernel(
            weights.head.device, weights.head.shape[0], weights.tail.shape[0]
        )
        points = 0 if kernel == "chain" else points

        def pack() -> PackedResmlpCuda | ResmlpChain:
            return ResmlpChain(weights) if kernel == "chain" else pack_resmlp_cuda(weights, kernel, points)

        return self._kept.get(parts, pack, kernel, points)

    def forget(self) -> None:
        """Packs again at the next call, whatever the counters say."""
        self._kept.forget()

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
        self._check(check, x, frame_bias, weights, pixels)
        made = self.packed(weights)
        if isinstance(made, ResmlpChain):
            out = made(x, frame_bias)
            return sum_segments(out) if pixels else out
        return torch.ops.nldf.resmlp_fused(
            x, frame_bias, made.weights, made.body_bias, made.tail_bias, made.kernel, pixels
        )

    @torch.no_grad()
    def beams(
        self, origins: Tensor, directions: Tensor, encoding: BeamEncoding, frame_bias: Tensor,
        weights: ResmlpWeights, *, pixels: bool = False,
    ) -> Tensor:  # fmt: skip
        """The network on the encoded beams of rays; the fused kernels encode them as they go.

        Args:
            origins, directions: [F, P, 3] float32, on the weights' device.
            encoding: of the beams.
            frame_bias, weights, pixels: as in a call.

        Returns:
            [F, P, out] float32, with no activation, or the pixels.

        Raises:
            TypeError, ValueError: an argument doesn't fit.
            MissingBackend: the kernel isn't built.
        """
        check = Checker("FusedResmlp")
        check.tensor("origins", origins, ("F", "P", 3))
        check.tensor("directions", directions, ("F", "P", 3))
        check.integer("points", encoding.points, 1)
        check.integer("frequencies", encoding.frequencies, 0, MOST_FREQUENCIES)
        check.sizes["in"] = encoding.columns
        self._check(check, origins, frame_bias, weights, pixels)
        made = self.packed(weights, encoding.points)
        if isinstance(made, ResmlpChain):
            out = made(encoding.encode(origins, directions), frame_bias)
            return sum_segments(out) if pixels else out
        return torch.ops.nldf.resmlp_beams(
            origins, directions, frame_bias, made.weights, made.body_bias, made.tail_bias, made.kernel,
            pixels, *astuple(encoding),
        )  # fmt: skip

    def _check(
        self, check: Checker, rays: Tensor, frame_bias: Tensor, weights: ResmlpWeights, pixels: bool
    ) -> None:
        check.tensor("frame_bias", frame_bias, ("F", "W"))
        check.tensor("head", weights.head.contiguous(), ("W", "in"))
        check.tensor("tail", weights.tail, ("out", "W"))
        out_dim = weights.tail.shape[0]
        if self.kernel != "chain" and rays.device.type != "cuda":
            raise ValueError(
                f"FusedResmlp: rays must be on a CUDA device, got {rays.device}; on the CPU call ops.resmlp"
            )
        if pixels and (out_dim > MOST_PIXEL_OUTPUTS or out_dim % 3 != 1):
            raise ValueError(f"FusedResmlp: pixels need 3M + 1 <= 16 outputs, got {out_dim}")
