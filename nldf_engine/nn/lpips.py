"""LPIPS 0.1 (Zhang et al. 2018) as a network: over AlexNet out of the box, over VGG16 where its weights are
at hand.

Nothing is downloaded. The backbones are those of torchvision up to their last used layer; the linear heads
are the lpips package's. AlexNet's come with the package in half precision; the arithmetic is single
precision in any case.

Own code, because the lpips package imports torchvision, which has no build that goes with the CPU build of
torch used here. A test compares it with the paper's formula, layer by layer in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nldf_engine.base.assets import ASSETS
from nldf_engine.nn.backbones import alexnet, tapped, vgg16
from nldf_engine.nn.weights import LPIPS_HEADS, WeightAsset, WeightFile, fill, find, load

ALEX_ASSET = WeightAsset(
    ASSETS / "lpips" / "alex.safetensors", "7539c9e2d012ec62a041c8510ae086ce908f652bbf3232e8822cc2fa8831c3f3"
)
"""AlexNet's convolutions and LPIPS's heads for it, made by `scripts/lpips_asset.py`."""
MEAN, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's colours, for pictures in [-1, 1]."""
BACKBONES = {"alex": alexnet, "vgg": vgg16}
# Added to a squared length under its root: the root of nothing has no gradient.
TINY = 1e-20


def lpips_distance(first: Sequence[Tensor], second: Sequence[Tensor], heads: Sequence[Tensor]) -> Tensor:
    """Equation 1 of Zhang et al.: sum over layers of the mean over pixels of |w (x/|x| - y/|y|)|^2.

    Args:
        first: features of each layer, [N, C, H, W].
        second: likewise.
        heads: weight of each channel, [C], already squared as the lpips package stores them.

    Returns:
        [N].
    """
    total = first[0].new_zeros(len(first[0]))
    for a, b, head in zip(first, second, heads, strict=True):
        a, b = (x / ((x.square().sum(1, keepdim=True) + TINY).sqrt() + 1e-10) for x in (a, b))
        total = total + ((a - b).square() * head.view(1, -1, 1, 1)).sum(1).mean((1, 2))
    return total


class LpipsNetwork(nn.Module):
    """The backbone and the heads; not trained.

    Args:
        net: "alex" or "vgg".
        weights: folder with the public weight files. AlexNet's come with the package where none of its two
            files is in there; for VGG16's torch's cache and the lpips package are looked into as well.

    Attributes:
        files: the files of weights in use.

    Raises:
        MissingBackend: a file of weights is nowhere.
        FileProblem: one is damaged or something else.
        ValueError: an unknown net.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, net: str = "alex", weights: Path | None = None) -> None:
        super().__init__()
        if net not in BACKBONES:
            raise ValueError(f"net: expected one of {', '.join(BACKBONES)}, got {net!r}")
        backbone = BACKBONES[net]()
        heads_file = LPIPS_HEADS[net]
        if net == "alex" and not _holds_any(weights, backbone.weights, heads_file):
            path = heads_path = ALEX_ASSET.path
            state = head_state = ALEX_ASSET.load()
            self.files: tuple[Path, ...] = (path,)
        else:
            path, heads_path = self.files = find(backbone.weights, weights), find(heads_file, weights)
            state, head_state = load(backbone.weights, path), load(heads_file, heads_path)
        self.layers, self._taps = backbone.network(), backbone.taps
        inner = {name.removeprefix("features."): value for name, value in state.items()}
        fill(self.layers, inner, backbone.weights, path)
        self.heads = nn.ModuleDict(
            {f"lin{k}": nn.ModuleDict({"model": nn.ModuleDict({"1": nn.Conv2d(width, 1, 1, bias=False)})})
             for k, width in enumerate(backbone.widths)}
        )  # fmt: skip
        fill(self.heads, head_state, heads_file, heads_path)
        self.requires_grad_(False)
        # As buffers: numbers of Python's would be copied to a GPU anew by every call, which waits for it.
        for name, values in (("mean", MEAN), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """The compared layers' features [N, C, H, W] of pictures [N, 3, H, W] in [-1, 1]."""
        return tapped(self.layers, self._taps, (pictures - self.mean) / self.scale)

    def forward(self, rendered: Tensor, real: Tensor) -> Tensor:
        """[N] distances of pictures [N, 3, H, W] in [-1, 1], with gradients to the first."""
        with torch.no_grad():
            wanted = self.features(real)
        return lpips_distance(self.features(rendered), wanted, [p.flatten() for p in self.heads.parameters()])


def _holds_any(folder: Path | None, *files: WeightFile) -> bool:
    """Whether a given folder has one of the files, or is no folder: `find` then says what is wrong."""
    if folder is None:
        return False
    return not folder.is_dir() or any((folder / file.name).is_file() for file in files)
