"""The compiled module: loading it, registering operations with torch, launching kernels."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType, ModuleType
from typing import Any

import torch  # before _C, so that one OpenMP runtime is mapped and torch.set_num_threads governs both
from torch import Tensor

from nldf_engine.base.errors import MissingBackend

LIBRARY = torch.library.Library("nldf", "DEF")
REGISTERED: list[str] = []

_BUILD = "pip install . in the repository's root"
_BUILD_CUDA = "put nvcc on PATH and run pip install . -C cmake.define.NLDF_CUDA=ON in the repository's root"


def _load() -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module("nldf_engine._C"), ""
    except ImportError as error:
        return None, str(error)


_C, _why_not = _load()


def use_native(op: str, backend: str) -> bool:
    """Whether a call with this `backend` runs the compiled kernel.

    The environment variable NLDF_BACKEND, where it is set, replaces "native".

    Raises:
        ValueError: the name of a backend is unknown.
    """
    if backend not in ("native", "reference"):
        raise ValueError(f"{op}: backend must be 'native' or 'reference', got {backend!r}")
    wanted = os.environ.get("NLDF_BACKEND") or "native"
    if wanted not in ("native", "reference"):
        raise ValueError(f"{op}: NLDF_BACKEND must be 'native' or 'reference', got {wanted!r}")
    return backend == "native" and wanted == "native"


def cpu_isa() -> str:
    """The fused CPU kernels' instruction set: "avx512", "avx2", "portable"; empty where none is built."""
    return "" if _C is None else str(_C.cpu_isa())


def backends() -> dict[str, Any]:
    """What is built into this installation.

    Returns:
        cpu: whether the CPU kernels are there; cuda: whether the CUDA kernels are; cuda_archs: the
        architectures they were built for; cuda_device: whether torch sees a device to run them on;
        cpu_isa: the instruction set of the fused CPU kernels ("avx512", "avx2" or "portable"; the
        environment variable NLDF_CPU_ISA chooses another one), None without the module;
        openmp: whether the CPU loops use several threads, and threads: how many (as
        `torch.set_num_threads` says); version: of the compiled module; problem: why it could not be
        loaded, empty where it was; mend: the command that would build what is missing, or empty.
    """
    cuda_archs = _C.cuda_archs.split(",") if _C is not None and _C.cuda_archs else []
    return {
        "cpu": _C is not None,
        "cuda": bool(cuda_archs),
        "cuda_archs": cuda_archs,
        "cuda_device": torch.cuda.is_available(),
        "cpu_isa": cpu_isa() if _C is not None else None,
        "openmp": bool(_C is not None and _C.openmp),
        "threads": torch.get_num_threads() if _C is not None and _C.openmp else 1,
        "version": _C.version if _C is not None else None,
        "problem": _why_not,
        "mend": _BUILD if _C is None else ("" if cuda_archs else _BUILD_CUDA),
    }


@cache
def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _kernel(name: str, like: Tensor) -> Callable[..., None]:
    if _C is None:
        raise MissingBackend(
            f"{name}: the compiled module nldf_engine._C can't be loaded ({_why_not})",
            f"run {_BUILD}, or choose the slow reference with backend='reference'",
        )
    found = getattr(_C, f"{name}_{like.device.type}_{_dtype_name(like.dtype)}", None)
    if found is None and like.device.type == "cuda" and not _C.cuda_archs:
        raise MissingBackend(
            f"{name}: the tensors are on {like.device}, but nldf_engine._C was built without CUDA",
            f"{_BUILD_CUDA}, or choose the slow reference with backend='reference'",
        )
    if found is None:
        raise TypeError(f"{name}: no kernel for {like.dtype} on {like.device.type}")
    return found


class Launch:
    """A kernel with its arguments, checked once: each call runs it on the calling thread's OpenMP team, or on
    torch's current stream of the device.

    Args:
        name: the kernel, without device and dtype.
        inputs: tensors of one dtype and device. A compiler may hand over other strides than the checked
            ones, so they are made contiguous here; that is free where they already are.
            `None` becomes a null pointer; the first must be a tensor.
        outputs: contiguous tensors to write, of the same dtype and device; `None` becomes a null pointer.
        dtypes: of those tensors whose dtype is not the first input's.
        sizes: the numbers of the kernel's argument struct; a dictionary for a struct inside it.

    Raises:
        MissingBackend: the kernel isn't built.
        TypeError, ValueError: a tensor does not fit.
    """

    def __init__(
        self, name: str, inputs: Mapping[str, Tensor | None], outputs: Mapping[str, Tensor | None],
        dtypes: Mapping[str, torch.dtype] = MappingProxyType({}), **sizes: Any,
    ) -> None:  # fmt: skip
        like = next(iter(inputs.values()))
        assert like is not None
        self._kernel = _kernel(name, like)
        self._device = like.device if like.is_cuda else None
        self._arguments = sizes
        usual, device, on_cpu = like.dtype, like.device, like.is_cpu
        self._held: list[Tensor] = []  # what the addresses point to, copies included
        for tensors in (inputs, outputs):
            for key, value in tensors.items():
                if value is None:
                    sizes[key] = 0
                    continue
                dtype = dtypes.get(key, usual) if dtypes else usual
                # Devices are compared where there are several of a kind: making one to compare costs most
                # here.
                if value.dtype is not dtype or not (value.is_cpu if on_cpu else value.device == device):
                    raise TypeError(
                        f"{name}: {key} must be {dtype} on {device}, got {value.dtype} on {value.device}"
                    )
                if tensors is inputs and not value.is_contiguous():
                    value = value.contiguous()
                elif tensors is outputs and not value.is_contiguous():
                    raise ValueError(f"{name}: {key} must be contiguous, got strides {value.stride()}")
                self._held.append(value)
                sizes[key] = value.data_ptr()
                if not sizes[key] and value.numel():
                    raise TypeError(f"{name}: {key} must have memory of its own, got a tensor without any")

    def __call__(self, changed: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Runs it, with some arguments in place of those that it was made with: none of them is checked."""
        index, stream = 0, 0
        if self._device is not None:
            index, stream = self._device.index, torch.cuda.current_stream(self._device).cuda_stream
        self._kernel(
            **{**self._arguments, **changed}, threads=torch.get_num_threads(), device=index, stream=stream
        )


def launch(
    name: str,
    inputs: Mapping[str, Tensor | None],
    outputs: Mapping[str, Tensor | None],
    dtypes: Mapping[str, torch.dtype] = MappingProxyType({}),
    **sizes: Any,
) -> None:
    """Runs a kernel once; see `Launch`."""
    Launch(name, inputs, outputs, dtypes, **sizes)()


def send(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; a GPU is not waited for, as it would be where memory may be swapped out."""
    return pinned(values, device).to(device, non_blocking=True)


def pinned(values: Tensor, device: torch.device) -> Tensor:
    """Values in memory from which a device copies without being waited for: a GPU needs it not to be swapped
    out."""
    return values.pin_memory() if device.type == "cuda" and values.is_cpu else values


def register(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Defines torch.ops.nldf.<name> with one implementation for CPU and CUDA and one for shapes alone.

    The operations have no gradient of their own; `autograd.Function`s in the operations' modules give it.

    Args:
        schema: as `torch.library.Library.define` takes it, without the namespace.
        run: the implementation, which launches a kernel.
        fake: makes outputs of the right shapes, without values.

    Returns:
        the operation, to be called with the schema's arguments.
    """
    name = schema.split("(")[0]
    LIBRARY.define(schema)
    LIBRARY.impl(name, run, "CPU")
    LIBRARY.impl(name, run, "CUDA")
    torch.library.register_fake(f"nldf::{name}", fake, lib=LIBRARY)
    REGISTERED.append(name)
    return getattr(torch.ops.nldf, name).default
