"""AD-NeRF's networks a second time, in numpy and float64.

They are written from the paper and from the names and shapes in its files. Nothing
of the package takes part in them; `imported` alone is ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from foreign_folders import Weights, random_checkpoint, save_checkpoint
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.adnerf.model import RadianceField
from nldf_engine.systems.adnerf.released import import_head, read_checkpoint

FLIP = np.array([1.0, -1.0, -1.0])  # our head space to theirs, and back
BOUNDS = Bounds(0.5, 1.1, radius=1.0)
Array = np.ndarray


def encode(x: Array, frequencies: int) -> Array:
    parts = [x]
    for level in range(frequencies):
        parts += [np.sin(2.0**level * x), np.cos(2.0**level * x)]
    return np.concatenate(parts, -1)


def linear(state: dict[str, Any], name: str, x: Array) -> Array:
    return x @ state[f"{name}.weight"].double().numpy().T + state[f"{name}.bias"].double().numpy()


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.02 * x)


def convolve(state: dict[str, Any], name: str, x: Array, stride: int) -> Array:
    """[C, N] -> [D, M]: kernel 3, a zero at both ends."""
    weight, bias = state[f"{name}.weight"].double().numpy(), state[f"{name}.bias"].double().numpy()
    padded = np.pad(x, ((0, 0), (1, 1)))
    places = range(0, x.shape[1], stride)
    return np.stack([np.einsum("dck,ck->d", weight, padded[:, p : p + 3]) + bias for p in places], 1)


def their_nerf(state: dict[str, Any], points: Array, views: Array, code: Array) -> tuple[Array, Array]:
    """rgb [N, 3] and density [N] at points [N, 3] of their head space, seen along views [N, 3]."""
    inputs = np.concatenate([encode(points, 10), np.broadcast_to(code, (len(points), len(code)))], 1)
    hidden = inputs
    for i in range(8):
        hidden = np.maximum(linear(state, f"pts_linears.{i}", hidden), 0)
        if i == 4:
            hidden = np.concatenate([inputs, hidden], 1)
    density = np.maximum(linear(state, "alpha_linear", hidden)[:, 0], 0)
    branch = np.concatenate([hidden, encode(views, 4)], 1)
    for i in range(3):
        branch = np.maximum(linear(state, f"views_linears.{i}", branch), 0)
    return 1 / (1 + np.exp(-linear(state, "rgb_linear", branch))), density


def their_code(weights: Weights, features: Array, frame: int, smoothed: bool = True) -> Array:
    """The audio code of a frame: eight neighbours through the audio net, fused by the attention."""
    net, attention = weights["network_audnet_state_dict"], weights["network_audattnet_state_dict"]

    def one(k: int) -> Array:
        window = features[k] if 0 <= k < len(features) else np.zeros_like(features[0])
        x = window.T.astype(np.float64)
        for i in range(4):
            x = leaky(convolve(net, f"encoder_conv.{2 * i}", x, 2))
        return linear(net, "encoder_fc1.2", leaky(linear(net, "encoder_fc1.0", x[:, 0])))

    if not smoothed:
        return one(frame)
    codes = np.stack([one(k) for k in range(frame - 4, frame + 4)])
    y = codes[:, :32].T
    for i in range(5):
        y = leaky(convolve(attention, f"attentionConvNet.{2 * i}", y, 1))
    logits = linear(attention, "attentionNet.0", y[0])
    share = np.exp(logits - logits.max())
    return (share / share.sum()) @ codes


def calm(weights: Weights) -> Weights:
    """The same with fields that let light through, and no wilder than fitted ones: a frequency counts by its
    length.

    Random weights make the highest frequencies as loud as the lowest, so that float32's rounding of a point
    is seen in the pixel, in their own program as well.
    """
    fall = torch.cat([torch.ones(3), *(torch.full((6,), 2.0**-level) for level in range(10))])
    for name in ("network_fn_state_dict", "network_fine_state_dict"):
        weights[name]["alpha_linear.bias"] -= 10
        weights[name]["alpha_linear.weight"] *= 2
        for part in ("weight", "bias"):
            weights[name][f"alpha_linear.{part}"] *= 0.2
        for layer in ("pts_linears.0.weight", "pts_linears.5.weight"):
            weights[name][layer][:, : len(fall)] *= fall
    return weights


def their_ray(meta: dict[str, Any], matrix: Array, i: int, j: int) -> tuple[Array, Array]:
    """Origin and direction, of depth 1, of the ray of pixel (i, j) in their head space."""
    focal = meta["focal_len"]
    ray = np.array([(i - meta["cx"]) / focal, -(j - meta["cy"]) / focal, -1.0])
    return matrix[:3, 3], matrix[:3, :3] @ ray


def their_march(
    state: dict[str, Any], origin: Array, ray: Array, depths: Array, code: Array
) -> tuple[Array, Array]:
    """Colours [S, 3] and weights [S] of a ray's samples; the last is the background's, with what is left."""
    views = np.tile(ray / np.linalg.norm(ray), (len(depths), 1))
    rgb, density = their_nerf(state, origin + depths[:, None] * ray, views, code)
    lengths = np.append(np.diff(depths), 1e10) * np.linalg.norm(ray)
    alpha = 1 - np.exp(-(density + 1e-6) * lengths)
    weights = alpha * np.cumprod(np.append(1.0, 1 - alpha + 1e-10))[:-1]
    return rgb, weights


def their_fine_depths(depths: Array, weights: Array, count: int) -> Array:
    """The coarse depths and `count` drawn by the weights' distribution, at quantiles k / (count - 1)."""
    middles = (depths[1:] + depths[:-1]) / 2
    mass = weights[1:-1] + 1e-5
    cdf = np.append(0.0, np.cumsum(mass / mass.sum()))
    u = np.linspace(0, 1, count)
    above = np.searchsorted(cdf, u, side="right")
    low, high = np.maximum(above - 1, 0), np.minimum(above, len(cdf) - 1)
    step = cdf[high] - cdf[low]
    share = (u - cdf[low]) / np.where(step < 1e-5, 1, step)
    return np.sort(np.append(depths, middles[low] + share * (middles[high] - middles[low])))


def their_pixel(
    weights: Weights, origin: Array, ray: Array, bounds: tuple[float, float], code: Array, behind: Array
) -> tuple[Array, float]:
    """A pixel as they render it, without random numbers, and the weight of the background in it."""
    depths = np.linspace(*bounds, 64)
    _, mass = their_march(weights["network_fn_state_dict"], origin, ray, depths, code)
    depths = their_fine_depths(depths, mass, 128)
    rgb, mass = their_march(weights["network_fine_state_dict"], origin, ray, depths, code)
    return mass @ np.vstack([rgb[:-1], behind]), float(mass[-1])


def imported(tmp_path: Path, weights: Weights, step: int = 300_000) -> RadianceField:
    return import_head(read_checkpoint(save_checkpoint(tmp_path / "x_head.tar", weights, step)), BOUNDS)


def samples(count: int = 200) -> tuple[Array, Array]:
    draw = np.random.default_rng(1)
    views = draw.normal(size=(count, 3))
    return draw.uniform(-0.4, 0.4, (count, 3)), views / np.linalg.norm(views, axis=1, keepdims=True)


def their_pose(matrix: Array) -> Array:
    """[42]: angles and place of the head as AD-NeRF reads them from its own matrices, encoded."""
    e = [
        np.arctan2(matrix[2, 2], matrix[1, 2]),
        np.arcsin(-matrix[0, 2]),
        np.arctan2(matrix[0, 0], -matrix[0, 1]),
    ]
    return np.concatenate([encode(np.array(e), 3), encode(matrix[:3, 3], 3)])


def random_body(seed: int = 1) -> Weights:
    body = random_checkpoint(seed, extra=42)
    del body["network_audattnet_state_dict"]
    return body


def turned(angles: tuple[float, float, float], place: tuple[float, float, float]) -> Array:
    """A matrix of theirs: a head turned about y, x and z, seen from a place."""
    (a, b, c), out = angles, np.eye(4)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    out[:3, :3], out[:3, 3] = y @ x @ z, place
    return out
