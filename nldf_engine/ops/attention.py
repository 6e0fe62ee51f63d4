"""Attention of a transformer's block over pieces of rows (Vaswani et al. 2017, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import attention_reference

PANEL = 16  # a head has a multiple of so many numbers


def _attention(rows: Tensor, heads: int, query: Tensor | None = None) -> Tensor:
    out = _attention_fake(rows, heads, query)
    pieces, seen, step = rows.shape
    own, width = rows if query is None else query, out.shape[2]
    native.launch(
        "attention", {"query": own, "rows": rows}, {"out": out},
        pieces=pieces, seeing=own.shape[1], seen=seen, query_step=own.shape[2], step=step,
        first=step - 2 * width, width=width, heads=heads,
    )  # fmt: skip
    return out


def _attention_fake(rows: Tensor, heads: int, query: Tensor | None = None) -> Tensor:
    if query is None:
        return rows.new_empty(*rows.shape[:2], rows.shape[2] // 3)
    return query.new_empty(query.shape)


_call_attention = native.register(
    "attention(Tensor rows, int heads, Tensor? query=None) -> Tensor", _attention, _attention_fake
)


def attend(rows: Tensor, heads: int, query: Tensor | None = None, *, backend: str = "native") -> Tensor:
    """What rows see of the rows of their own piece, [N, n, D]; on the CPU alone, and without a gradient.

    Each head, D / heads numbers of a row, is softmax(query key^T / sqrt(D / heads)) value. A row's numbers
    are the same to the bit whichever pieces stand beside its own, on any number of threads.

    Args:
        rows: [N, L, 3 D] float32: query, key and value of each row, behind each other, and n is L; or, with
            `query`, [N, L, 2 D] key and value.
        heads: of D / heads numbers, a multiple of 16.
        query: [N, n, D] of the rows that look, where these are others.
        backend: "native" or "reference".

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel isn't built.

    Example:
        >>> attend(torch.zeros(1, 4, 32), 1, torch.zeros(1, 2, 16)).shape
        torch.Size([1, 2, 16])
    """
    check = Checker("attend", (torch.float32,), "torch.float32")
    check.tensor("rows", rows, ("N", "L", "W"))
    check.integer("heads", heads, 1)
    parts = 3 if query is None else 2
    width = rows.shape[2] // parts
    if rows.shape[2] % parts or width % (heads * PANEL) or not rows.shape[1] or not width:
        raise ValueError(
            f"attend: expected rows [N, L, {parts} D] with L of at least 1 and D a multiple of {PANEL} x "
            f"{heads} heads, got {list(rows.shape)}"
        )
    if query is not None:
        check.tensor("query", query, ("N", "n", width))
    if not native.use_native("attention", backend):
        return attention_reference(rows, heads, query)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (rows, query)):
        raise ValueError("attend: the kernel has no gradient; use torch.no_grad()")
    made: Tensor = _call_attention(rows, heads, query)
    return made
