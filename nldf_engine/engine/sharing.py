"""Modules that share their weights: each with settings of its own, the weights in memory once."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def share_weights(module: M) -> M:
    """A copy of a module whose parameters and buffers share their memory with the original's.

    Everything else (submodules, attributes, what is cached) is the copy's own. So a setting of the copy, or
    its move to another device, leaves the original as it is, while a write into a tensor of either is seen by
    both. The copy's parameters take no gradients.

    Example:
        >>> import torch
        >>> one = nn.Linear(2, 2)
        >>> other = share_weights(one).eval()
        >>> one.training, other.weight.data_ptr() == one.weight.data_ptr()
        (True, True)
    """
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach()
    return copy.deepcopy(module, memo)
