"""Checks of arguments, shared by all operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64)


class Checker:
    """Checks the tensors of one call against each other.

    The first tensor settles dtype and device, and the first mention of a named size settles that size;
    later tensors must agree.

    Args:
        op: name of the operation, as messages give it.
        dtypes: what the first tensor may be, and how messages say it (`named`).

    Example:
        >>> check = Checker("composite_segments")
        >>> check.tensor("sigma", torch.zeros(2, 8), ("R", "S"))
        >>> check.tensor("rgb", torch.zeros(2, 7, 3), ("R", "S", 3))
        Traceback (most recent call last):
            ...
        ValueError: composite_segments: rgb must have the shape [R=2, S=8, 3], got [2, 7, 3]
    """

    def __init__(
        self, op: str, dtypes: Sequence[torch.dtype] = DTYPES, named: str = "torch.float32 (or torch.float64)"
    ) -> None:
        self.op = op
        self.dtypes = dtypes
        self.named = named
        self.sizes: dict[str, int] = {}
        self._first: tuple[str, Tensor] | None = None

    def tensor(self, name: str, value: Any, shape: Sequence[int | str]) -> None:
        """Checks one tensor.

        Raises:
            TypeError: no tensor, or a dtype that isn't supported or differs from the first tensor's.
            ValueError: a wrong device, shape or memory layout.
        """
        if not isinstance(value, Tensor):
            raise TypeError(f"{self.op}: {name} must be a torch.Tensor, got {type(value).__name__}")
        if self._first is None:
            if value.dtype not in self.dtypes:
                raise TypeError(f"{self.op}: {name} must be {self.named}, got {value.dtype}")
            if value.device.type not in ("cpu", "cuda"):
                raise ValueError(f"{self.op}: {name} must be on the CPU or a CUDA device, got {value.device}")
            if value.dtype == torch.float64 and value.device.type == "cuda":
                raise TypeError(f"{self.op}: {name} must be torch.float32 on CUDA, got {value.dtype}")
            self._first = (name, value)
        else:
            first, other = self._first
            if value.dtype != other.dtype:
                raise TypeError(f"{self.op}: {name} must be {other.dtype} as {first} is, got {value.dtype}")
            if value.device != other.device:
                raise ValueError(
                    f"{self.op}: {name} must be on {other.device} as {first} is, got {value.device}"
                )
        sizes, known = self.sizes, len(self.sizes)
        fits = value.dim() == len(shape)
        for wanted, got in zip(shape, value.shape, strict=False):
            fits = fits and got == (sizes.setdefault(wanted, got) if isinstance(wanted, str) else wanted)
        if not fits:
            self.sizes = dict(list(sizes.items())[:known])  # what this tensor named first doesn't count
            parts = [f"{size}={self.sizes[size]}" if size in self.sizes else str(size) for size in shape]
            raise ValueError(
                f"{self.op}: {name} must have the shape [{', '.join(parts)}], got {list(value.shape)}"
            )
        if not value.is_contiguous():
            raise ValueError(
                f"{self.op}: {name} must be contiguous, got strides {value.stride()}; call .contiguous()"
            )

    def integer(self, name: str, value: Any, least: int, most: int | None = None) -> None:
        """Checks an int in [least, most]; raises TypeError or ValueError."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{self.op}: {name} must be an int, got {type(value).__name__}")
        if value < least or (most is not None and value > most):
            wanted = f"at least {least}" if most is None else f"in [{least}, {most}]"
            raise ValueError(f"{self.op}: {name} must be {wanted}, got {value}")

    def number(self, name: str, value: Any) -> None:
        """Checks a finite float (or int); raises TypeError or ValueError."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{self.op}: {name} must be a float, got {type(value).__name__}")
        if not math.isfinite(value):
            raise ValueError(f"{self.op}: {name} must be finite, got {value}")
