"""Which device computes: the requested one, or the best that torch and the kernels both have."""

from __future__ import annotations

import sys

import torch

from nldf_engine.base.errors import MissingBackend
from nldf_engine.ops import native

CUDA_REMEDY = "install the CUDA toolkit and run `pip install --force-reinstall --no-deps .`"


def choose_device(device: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        MissingBackend: CUDA was asked for, and torch or the compiled kernels have none.
        ValueError: no such device name.
    """
    if device == "auto":
        device = "cpu"
        if torch.cuda.is_available() and native.backends()["cuda"]:
            device = "cuda"
        elif torch.cuda.is_available():
            sys.stderr.write(f"The kernels lack CUDA, so the GPU here stays unused: {CUDA_REMEDY}\n")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise MissingBackend("device 'cuda' was asked for, and torch finds no GPU", "use --device cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        have = torch.cuda.device_count()
        raise MissingBackend(f"device {device!r} was asked for, and GPUs here: {have}", "use --device cuda")
    if chosen.type == "cuda" and not native.backends()["cuda"]:
        raise MissingBackend(
            "device 'cuda' was asked for, and the kernels were built without CUDA", CUDA_REMEDY
        )
    return chosen
