"""How torch computes float32's matrix products and convolutions on CUDA: exactly, or from operands of TF32.

TF32 keeps a float32's exponent and 10 bits of its mantissa; sums stay in float32. Tensor cores compute such
products several times as fast. What is no product of matrices, and the package's own kernels, are not
concerned, and neither is the CPU.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PRODUCTS = ("tf32", "fp32")

# Whether the thread is within `products("tf32")`.
_thread = threading.local()


def check_products(name: str, kind: str) -> None:
    """Checks that `kind` is one of `PRODUCTS`.

    Raises:
        ValueError: it is not.
    """
    if kind not in PRODUCTS:
        raise ValueError(f"{name}: expected {' or '.join(PRODUCTS)}, got {kind!r}")


def _switches() -> tuple[tuple[Any, Any], str, dict[str, Any]]:
    """Where torch is told about products and about convolutions; the attribute's name; its values.

    Since torch 2.9 there is a newer attribute, which can be read whichever of the two a program has set, and
    which leaves the older one readable where it is put back.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return (matmul, cudnn.conv), "fp32_precision", {"tf32": "tf32", "fp32": "ieee"}
    return (matmul, cudnn), "allow_tf32", {"tf32": True, "fp32": False}


def rounded_now() -> tuple[bool, bool]:
    """Whether torch is set to TF32 for matrix products, and for convolutions."""
    switches, name, values = _switches()
    matmul, conv = (getattr(switch, name) == values["tf32"] for switch in switches)
    return matmul, conv


@contextmanager
def products(kind: str) -> Iterator[None]:
    """Products of matrices and convolutions are of `kind`, one of `PRODUCTS`, in all threads; then as before.

    A CUDA graph keeps what held while it was recorded.
    """
    switches, name, values = _switches()
    before = [getattr(switch, name) for switch in switches]
    outside = getattr(_thread, "rounds", False)
    try:
        for switch in switches:
            setattr(switch, name, values[kind])
        _thread.rounds = kind == "tf32"
        yield
    finally:
        _thread.rounds = outside
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, name, value)


@contextmanager
def exact_products() -> Iterator[None]:
    """Products of matrices are exact where they are of few numbers that say where something is.

    A coordinate of 10 bits is off by a quarter of a pixel in a picture of 512. Nothing is read or changed in
    a thread that is not within `products("tf32")`, so that one that renders does not disturb one that trains.
    """
    if not getattr(_thread, "rounds", False):
        yield
        return
    (matmul, _), name, values = _switches()
    before = getattr(matmul, name)
    try:
        setattr(matmul, name, values["fp32"])
        yield
    finally:
        setattr(matmul, name, before)
