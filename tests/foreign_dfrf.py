"""DFRF's networks a second time, in numpy and float64: extractor, warp, fusion and field of one sample.

They are written from the paper, and from the names and shapes in its program's files. Nothing of the package
takes part in them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from foreign_folders import optimizer_state
from foreign_networks import Array, encode

State = dict[str, torch.Tensor]
LIMIT = 10.0


def random_networks(shapes: dict[str, dict[str, tuple[int, ...]]], seed: int = 0) -> dict[str, State]:
    """A checkpoint's networks of these shapes with random weights; coarse and fine share one fusion."""
    draw = torch.Generator().manual_seed(seed)

    def fill(name: str, size: tuple[int, ...]) -> torch.Tensor:
        if name.endswith("bias") or name.startswith("slots"):
            return 0.1 * torch.randn(size, generator=draw)
        if len(size) == 1:  # of a layer norm
            return 1 + 0.1 * torch.randn(size, generator=draw)
        return torch.randn(size, generator=draw) * 1.4 / float(np.prod(size[1:])) ** 0.5

    made = {
        part: {key: fill(key.rpartition("slot_att.")[2], size) for key, size in layers.items()}
        for part, layers in shapes.items()
    }
    fusion = made["attention_state_dict"]
    for part in ("network_fn_state_dict", "network_fine_state_dict"):
        made[part] |= {f"slot_att.{key}": value for key, value in fusion.items()}
        made[part]["nerf_model.alpha_linear.bias"] += 2
    # Raw pixel numbers are large, and offsets are to reach some pixels.
    for layer in ("fc1.0", "fc7.0"):
        fusion[f"{layer}.weight"][:, 128:130] *= 0.1
    made["position_warp_state_dict"]["mlp.4.weight"] *= 4
    return made


def save_networks(
    path: Path, networks: dict[str, State], step: int = 400_000, smoothed: bool = True, **more: Any
) -> Path:
    """The file as DFRF saves it."""
    attention = optimizer_state(networks["network_audattnet_state_dict"], smoothed)
    rest = {
        "optimizer_state_dict": {},
        "optimizer_aud_state_dict": {},
        "optimizer_audatt_state_dict": attention,
    }
    torch.save({"global_step": step, **networks, **rest, **more}, path)
    return path


def of(state: State, key: str) -> Array:
    return state[key].double().numpy()


def linear(state: State, name: str, x: Array) -> Array:
    return x @ of(state, f"{name}.weight").T + of(state, f"{name}.bias")


def softened(state: State, slots: Array) -> Array:
    """Slots behind their own two layers."""
    hidden = rectified(linear(state, "mlp.0", norm(state, "norm_pre_ff", slots)))
    return slots + linear(state, "mlp.2", hidden)


def rectified(x: Array, slope: float = 0.0) -> Array:
    return np.where(x > 0, x, slope * x)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def convolve(state: State, name: str, x: Array) -> Array:
    """[H, W, C] -> [H, W, D]: kernel 3 x 3, zeros around."""
    weight, bias = of(state, f"{name}.weight"), of(state, f"{name}.bias")
    height, width = x.shape[:2]
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    parts = [padded[i : i + height, j : j + width] @ weight[:, :, i, j].T for i in range(3) for j in range(3)]
    return sum(parts) + bias


def their_map(networks: dict[str, State], picture: Array, matrix: Array) -> Array:
    """[S, S, 128] features of a picture [S, S, 3] in [0, 1], seen from a pose of theirs."""
    state = networks["unet_state_dict"]
    place = np.broadcast_to(encode(matrix[:3, 3], 5), (*picture.shape[:2], 33))
    hidden = rectified(convolve(state, "conv1.0", np.concatenate([encode(picture, 5), place], -1)))
    return linear(state, "fc", rectified(convolve(state, "conv2.0", hidden)))


def their_place(point: Array, matrix: Array, focal: float, side: int) -> Array:
    """[2] row and column of a point in a picture, counted from 0 at a pixel's centre, within the picture."""
    x, y, z = matrix[:3, :3].T @ (point - matrix[:3, 3])
    return np.clip(side / 2 + focal * np.array([y, -x]) / z, 0, side - 1)


def between(features: Array, place: Array) -> Array:
    """Features [S, S, C] at a place (row, column), bilinear."""
    side = len(features)
    low = np.minimum(np.floor(place).astype(int), side - 2)
    (a, b), (i, j) = place - low, low
    return (
        (1 - a) * ((1 - b) * features[i, j] + b * features[i, j + 1])
        + a * ((1 - b) * features[i + 1, j] + b * features[i + 1, j + 1])
    )  # fmt: skip


def their_lookup(
    networks: dict[str, State], point: Array, code: Array, features: Array, matrix: Array, focal: float,
    whole: bool = True,
) -> Array:  # fmt: skip
    """[130]: a reference's feature at the warped place of a point, and that place.

    `whole`: as their program, which rounds the projected place before it is warped and cuts the place that it
    tells the fusion; otherwise places are what they are, as in the paper.
    """
    side, state = len(features), networks["position_warp_state_dict"]
    place = their_place(point, matrix, focal, side)
    nearest = np.rint(place)
    seen = features[int(nearest[0]), int(nearest[1])]
    hidden = rectified(linear(state, "mlp.0", np.concatenate([encode(point, 10), code, seen])))
    offset = np.clip(linear(state, "mlp.4", rectified(linear(state, "mlp.2", hidden))), -LIMIT, LIMIT)
    place = np.clip((nearest if whole else place) + offset, 0, side - 1)
    return np.concatenate([between(features, place), np.trunc(place) if whole else place])


def norm(state: State, name: str, x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * of(state, f"{name}.weight") + of(state, f"{name}.bias")


def their_fusion(networks: dict[str, State], seen: Array, point: Array, noise: Array) -> Array:
    """[256] of what is seen in references [N, 130], under noise [2, 128] of the slots' start."""
    state = networks["attention_state_dict"]
    small = linear(state, "fc6", rectified(linear(state, "fc1.0", seen)))
    own = np.broadcast_to(encode(point, 10), (len(seen), 63))
    inputs = norm(
        state, "norm_input", rectified(linear(state, "fc7.0", np.concatenate([seen, own, small], 1)), 0.01)
    )
    keys, values = linear(state, "to_k", inputs), linear(state, "to_v", inputs)
    slots = of(state, "slots_mu")[0] + np.exp(of(state, "slots_logsigma")[0]) * noise
    for _ in range(2):
        before = slots
        likeness = linear(state, "to_q", norm(state, "norm_slots", slots)) @ keys.T * 128**-0.5
        weights = np.exp(likeness - likeness.max(0)) / np.exp(likeness - likeness.max(0)).sum(0) + 1e-8
        found = weights / weights.sum(1, keepdims=True) @ values
        given = np.split(found @ of(state, "gru.weight_ih").T + of(state, "gru.bias_ih"), 3, 1)
        held = np.split(before @ of(state, "gru.weight_hh").T + of(state, "gru.bias_hh"), 3, 1)
        reset, keep = sigmoid(given[0] + held[0]), sigmoid(given[1] + held[1])
        slots = softened(state, (1 - keep) * np.tanh(given[2] + reset * held[2]) + keep * before)
    return slots.reshape(-1)


def their_sample(
    networks: dict[str, State], part: str, point: Array, view: Array, code: Array, maps: list[Array],
    matrices: list[Array], focal: float, noise: Array, whole: bool = True,
) -> tuple[Array, float]:  # fmt: skip
    """Colour [3] and density of a point of their head space seen along a view, with references' maps."""
    seen = np.stack([
        their_lookup(networks, point, code, features, matrix, focal, whole)
        for features, matrix in zip(maps, matrices, strict=True)
    ])  # fmt: skip
    state = {
        key.removeprefix("nerf_model."): value for key, value in networks[part].items() if "nerf_model" in key
    }
    inputs = np.concatenate([their_fusion(networks, seen, point, noise), encode(point, 10), code])
    hidden = inputs
    for i in range(8):
        hidden = rectified(linear(state, f"pts_linears.{i}", hidden))
        if i == 4:
            hidden = np.concatenate([inputs, hidden])
    density = float(rectified(linear(state, "alpha_linear", hidden))[0])
    branch = np.concatenate([hidden, encode(view, 4)])
    for i in range(3):
        branch = rectified(linear(state, f"views_linears.{i}", branch))
    return sigmoid(linear(state, "rgb_linear", branch)), density
