"""How torch computes float32's matrix products and convolutions on CUDA: exactly, or from operands of TF32.

TF32 keeps a float32's exponent and 10 bits of its mantissa; sums stay in float32. Tensor cores compute such
products several times as fast. What is no product of matrices, and the package's own kernels, are not
concerned, and neither is the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRODUCTS = ("tf32", "fp32")


def check_products(name: str, kind: str) -> None:
    """Checks that `kind` is one of `PRODUCTS`.

    Raises:
        ValueError: it is not.
    """
    if kind not in PRODUCTS:
        raise ValueError(f"{name}: expected {' or '.join(PRODUCTS)}, got {kind!r}")


@contextmanager
def products(kind: str) -> Iterator[None]:
    """Products of matrices and convolutions are of `kind`, one of `PRODUCTS`, in all threads; then as before.

    A CUDA graph keeps what held while it was recorded.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = kind == "tf32"
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextmanager
def exact_products() -> Iterator[None]:
    """Products of matrices are exact where they are of few numbers that say where something is.

    A coordinate of 10 bits is off by a quarter of a pixel in a picture of 512. Outside training nothing is
    changed, so that other threads are not disturbed.
    """
    matmul = torch.backends.cuda.matmul
    if not matmul.allow_tf32:
        yield
        return
    try:
        matmul.allow_tf32 = False
        yield
    finally:
        matmul.allow_tf32 = True
