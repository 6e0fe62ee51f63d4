"""Foreign folders edited, and AD-NeRF checkpoints with random weights, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

Change = Callable[[dict[str, Any]], None]


def edit(folder: Path, change: Change, names: tuple[str, ...] = ("train", "val")) -> None:
    """Applies `change` to the transforms files of a folder."""
    for name in names:
        path = folder / f"transforms_{name}.json"
        meta = json.loads(path.read_text())
        change(meta)
        path.write_text(json.dumps(meta))


def save_picture(path: Path, picture: np.ndarray) -> None:
    assert cv2.imwrite(str(path), picture)


Weights = dict[str, dict[str, torch.Tensor]]


def random_checkpoint(seed: int = 0, width: int = 24, code: int = 64, extra: int = 0) -> Weights:
    """The networks of an AD-NeRF checkpoint, with random weights; `extra` numbers more drive a body."""
    draw = torch.Generator().manual_seed(seed)

    def layer(out: int, *size: int, gain: float = 1.4) -> dict[str, torch.Tensor]:
        fan = int(np.prod(size))
        weight = torch.randn(out, *size, generator=draw) * gain / fan**0.5
        return {"weight": weight, "bias": 0.1 * torch.randn(out, generator=draw)}

    def named(**layers: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {f"{n.replace('__', '.')}.{k}": v for n, part in layers.items() for k, v in part.items()}

    points, views, half = 63 + code + extra, 27, width // 2

    def nerf() -> dict[str, torch.Tensor]:
        sizes = {f"pts_linears__{i}": (width, {0: points, 5: width + points}.get(i, width)) for i in range(8)}
        sizes |= {f"views_linears__{i}": (half, width + views if i == 0 else half) for i in range(3)}
        sizes |= {"feature_linear": (width, width), "alpha_linear": (1, width), "rgb_linear": (3, half)}
        made = named(**{name: layer(*size) for name, size in sizes.items()})
        # Dense here and empty there, as in a trained field.
        made["alpha_linear.weight"] *= 8
        made["alpha_linear.bias"] += 15
        return made

    channels = (29, 32, 32, 64, 64)
    net = named(
        **{f"encoder_conv__{2 * i}": layer(channels[i + 1], channels[i], 3) for i in range(4)},
        encoder_fc1__0=layer(64, 64), encoder_fc1__2=layer(code, 64),
    )  # fmt: skip
    channels = (32, 16, 8, 4, 2, 1)
    attention = named(
        **{f"attentionConvNet__{2 * i}": layer(channels[i + 1], channels[i], 3) for i in range(5)},
        attentionNet__0=layer(8, 8, gain=4.0),
    )
    return {
        "network_fn_state_dict": nerf(), "network_fine_state_dict": nerf(),
        "network_audnet_state_dict": net, "network_audattnet_state_dict": attention,
    }  # fmt: skip


def optimizer_state(weights: dict[str, torch.Tensor], stepped: bool = True) -> dict[str, Any]:
    """What an optimiser of these parameters saves, after a step or before the first."""
    parameters = [torch.nn.Parameter(v.clone()) for v in weights.values()]
    optimizer = torch.optim.Adam(parameters, 5e-4)
    if stepped:
        sum(p.sum() for p in parameters).backward()
        optimizer.step()
    return optimizer.state_dict()


def save_checkpoint(
    path: Path, weights: Weights, step: int = 300_000, smoothed: bool | None = True, **more: Any
) -> Path:
    """The file as AD-NeRF saves it, optimisers and all.

    `smoothed`: whether the attention's optimiser has taken a step; None leaves it out, as the training of a
    body does, and every body's file.
    """
    states = {
        "optimizer_state_dict": optimizer_state(weights["network_fn_state_dict"]),
        "optimizer_aud_state_dict": {},
    }
    attention = weights.get("network_audattnet_state_dict")
    if smoothed is not None and attention is not None:
        states["optimizer_audatt_state_dict"] = optimizer_state(attention, smoothed)
    torch.save({"global_step": step, **weights, **states, **more}, path)
    return path
