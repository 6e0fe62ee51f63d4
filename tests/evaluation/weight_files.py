"""Files in the shape of the public weights, with random numbers: loading can not tell the difference."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nldf_engine.nn.lpips import BACKBONES
from nldf_engine.nn.weights import LPIPS_HEADS


def random_like(module: torch.nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A state of the module's names and shapes, small numbers, variances above zero."""
    made = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            state[name] = value.clone()
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(value.shape, generator=made)
        else:
            state[name] = torch.randn(value.shape, generator=made) * (2.0 / max(1, value[0].numel())) ** 0.5
    return state


def save_lpips(folder: Path, net: str, heads: float | None = None) -> None:
    """A backbone as torchvision names it, with a classifier beside, and heads as the package names them."""
    backbone = BACKBONES[net]()
    state = {"features." + name: value for name, value in random_like(backbone.network()).items()}
    torch.save(state | {"classifier.1.weight": torch.zeros(1)}, folder / backbone.weights.name)
    made = torch.Generator().manual_seed(1)
    torch.save(
        {
            f"lin{k}.model.1.weight": torch.rand(1, width, 1, 1, generator=made)
            if heads is None
            else torch.full((1, width, 1, 1), heads)
            for k, width in enumerate(backbone.widths)
        },
        folder / LPIPS_HEADS[net].name,
    )
