"""Networks that others trained on pictures, whose features tell how alike two pictures look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nldf_engine.nn.weights import ALEXNET, VGG16, WeightFile

VGG16_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions of each block, and their channels."""


@dataclass(frozen=True)
class Backbone:
    """A convolutional network whose features are compared.

    Args:
        weights: its file.
        layers: what `features` is made of: ("conv", in, out, kernel, stride, padding), ("relu",), ("pool",
            kernel, stride).
        taps: the layers whose outputs are compared.
    """

    weights: WeightFile
    layers: tuple[tuple, ...]
    taps: tuple[int, ...]

    def network(self) -> nn.Sequential:
        """The untrained layers, numbered as torchvision's `features`."""
        make: dict[str, Callable[..., nn.Module]] = {
            "conv": lambda a, b, k, s, p: nn.Conv2d(a, b, k, s, p),
            "relu": lambda: nn.ReLU(),
            "pool": lambda k, s: nn.MaxPool2d(k, s),
        }
        return nn.Sequential(*(make[kind](*sizes) for kind, *sizes in self.layers))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each tap."""
        return tuple(
            next(layer[2] for layer in reversed(self.layers[: tap + 1]) if layer[0] == "conv")
            for tap in self.taps
        )


def alexnet() -> Backbone:
    """AlexNet as torchvision has it, compared behind each of its five convolutions."""
    layers = (
        ("conv", 3, 64, 11, 4, 2), ("relu",), ("pool", 3, 2), ("conv", 64, 192, 5, 1, 2), ("relu",),
        ("pool", 3, 2), ("conv", 192, 384, 3, 1, 1), ("relu",), ("conv", 384, 256, 3, 1, 1), ("relu",),
        ("conv", 256, 256, 3, 1, 1), ("relu",),
    )  # fmt: skip
    return Backbone(ALEXNET, layers, (1, 4, 7, 9, 11))


def vgg16(blocks: int = 5) -> Backbone:
    """VGG16, compared behind the last convolution of each block; of 5 blocks the first ones alone.

    Raises:
        ValueError: another number of blocks.
    """
    if not 1 <= blocks <= len(VGG16_BLOCKS):
        raise ValueError(f"blocks: expected 1 to {len(VGG16_BLOCKS)}, got {blocks}")
    layers: list[tuple] = []
    taps, width = [], 3
    for block, (repeats, wide) in enumerate(VGG16_BLOCKS[:blocks]):
        if block:
            layers.append(("pool", 2, 2))
        for _ in range(repeats):
            layers += [("conv", width, wide, 3, 1, 1), ("relu",)]
            width = wide
        taps.append(len(layers) - 1)
    return Backbone(VGG16, tuple(layers), tuple(taps))


def tapped(network: nn.Sequential, taps: Sequence[int], x: Tensor) -> list[Tensor]:
    """The outputs of the layers `taps` of a network for its input."""
    found = []
    for number, layer in enumerate(network):
        x = layer(x)
        if number in taps:
            found.append(x)
    return found
