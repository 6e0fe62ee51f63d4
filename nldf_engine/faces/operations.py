"""The operations that the face networks are made of, on pictures [B, H, W, C] (channels last, float32).

Each is a function of a node's description and the file's tensors, and returns what computes it: the work that
does not depend on a picture (weights brought in the right order) is done once. Convolutions of one pixel are
matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Step = Callable[..., Tensor]
Build = Callable[[Mapping[str, Any], Mapping[str, Tensor]], Step]
OPERATIONS: dict[str, Build] = {}
"""By the names that the asset's graphs use."""


def operation(build: Build) -> Build:
    """Registers a function under its own name."""
    OPERATIONS[build.__name__.rstrip("_")] = build
    return build


def _planes(x: Tensor) -> Tensor:
    """[B, H, W, C] as torch's [B, C, H, W]: the same memory, its format "channels last"."""
    return x.permute(0, 3, 1, 2)


def _pixels(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


@operation
def conv(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """A convolution: weight [O, I/groups, kh, kw], bias [O], stride, pad [left, right, top, bottom], relu."""
    weight, bias = tensors[node["weight"]], tensors[node["bias"]]
    stride, groups, pad, relu = node["stride"], node["groups"], node["pad"], node["relu"]
    size, sides = tuple(weight.shape[2:]), list(pad)
    if size == (1, 1) and stride == 1 and groups == 1 and not any(sides):
        matrix = weight[:, :, 0, 0].t().contiguous()

        def pointwise(x: Tensor) -> Tensor:
            rows = torch.addmm(bias, x.reshape(-1, x.shape[-1]), matrix)
            return (rows.relu_() if relu else rows).view(*x.shape[:-1], -1)

        return pointwise
    weight = weight.contiguous(memory_format=torch.channels_last)
    even = sides[0] == sides[1] and sides[2] == sides[3]
    inside = (sides[2], sides[0]) if even else (0, 0)

    def convolve(x: Tensor) -> Tensor:
        planes = _planes(x if even else functional.pad(x, (0, 0, *sides)))
        out = _pixels(functional.conv2d(planes, weight, bias, stride, inside, 1, groups))
        return out.relu_() if relu else out

    return convolve


@operation
def prelu(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """max(x, 0) + slope min(x, 0), a slope a channel."""
    slope = tensors[node["slope"]]
    return lambda x: _pixels(functional.prelu(_planes(x), slope))


@operation
def relu(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """max(x, 0)."""
    return torch.relu


@operation
def relu6(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """min(max(x, 0), 6)."""
    return functional.relu6


@operation
def hard_swish(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """x min(max(x + 3, 0), 6) / 6."""
    return functional.hardswish


@operation
def sigmoid(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid


@operation
def add(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """The sum of two, and what is positive of it where the node says `relu`."""
    if node.get("relu"):
        return lambda a, b: torch.add(a, b).relu_()
    return torch.add


@operation
def multiply(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """The product of two; [B, 1, 1, C] weighs channels."""
    return torch.mul


@operation
def scale(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """The product with a constant."""
    factor = torch.tensor(node["by"])
    return lambda x: x * factor


@operation
def pad_channels(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """Appends channels of zeros."""
    more = (0, node["channels"])
    return lambda x: functional.pad(x, more)


@operation
def max_pool(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """The largest of each two by two."""
    return lambda x: _pixels(functional.max_pool2d(_planes(x), 2))


@operation
def mean(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """Over the picture, [B, 1, 1, C]."""
    return lambda x: x.mean((1, 2), keepdim=True)


@operation
def resize(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """Bilinear to `size` [height, width], pixel centres at halves."""
    size = list(node["size"])
    return lambda x: _pixels(
        functional.interpolate(_planes(x), size=size, mode="bilinear", align_corners=False)
    )


@operation
def depth_to_space(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """Four groups of channels become squares of two: [B, H, W, 4C] -> [B, 2H, 2W, C]."""

    def spread(x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        parts = x.view(batch, height, width, 2, 2, channels // 4).transpose(2, 3)
        return parts.reshape(batch, 2 * height, 2 * width, channels // 4)

    return spread


@operation
def reshape(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """The same numbers as [B, *shape]."""
    shape = list(node["shape"])
    return lambda x: x.reshape(x.shape[0], *shape)


@operation
def concat(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """One after the other, along the first dimension after the batch."""
    return lambda *parts: torch.cat(parts, 1)


@operation
def region(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """A crop around some landmarks, upright as the line between two of them.

    Landmarks [B, ..., 3 L] -> [B, 2, 3], from the crop's pixels to those of the features, which are
    `factor` times as many as the landmarks'. The crop is the box around `points`, `scale` times as large,
    turned so that the two of `level` lie level.
    """
    left, right = node["level"]
    points, size, factor = torch.tensor(node["points"]), float(node["size"]), float(node["factor"])
    grown = node["scale"] / size

    def crop(given: Tensor) -> Tensor:
        marks = given.reshape(len(given), -1, 3)[..., :2] * factor
        across = functional.normalize(marks[:, right] - marks[:, left], dim=1)
        cos, sin = across.unbind(1)
        turn = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)  # from the level box to the features
        box = marks[:, points] @ turn
        low, high = box.amin(1), box.amax(1)
        steps = turn * ((high - low) * grown)[:, None]
        corner = (turn @ ((low + high) / 2)[..., None]).squeeze(2) - steps.sum(2) * (size / 2)
        return torch.cat([steps, corner[..., None]], 2)

    return crop


@operation
def sample(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """Features [B, H, W, C] at the pixels of a crop [B, 2, 3] of `region`; zeros beyond the outer centres."""
    size = node["size"]
    line = torch.arange(size) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1)

    def look(features: Tensor, matrix: Tensor) -> Tensor:
        height, width = features.shape[1:3]
        extent = torch.tensor([width, height], dtype=torch.float32)
        places = (matrix @ pixels).transpose(1, 2)
        inside = ((places >= 0.5) & (places <= extent - 0.5)).all(2, keepdim=True)
        grid = torch.where(inside, 2 * places / extent - 1, 3.0).view(-1, size, size, 2)
        return _pixels(functional.grid_sample(_planes(features), grid, align_corners=False))

    return look


@operation
def transform(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    """Points [B, L, 2] by matrices [B, 2, 3]."""
    return lambda points, matrix: points @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]
