"""How alike two pictures look, as a loss: LPIPS (Zhang et al. 2018); features of VGG16 (Johnson et al. 2016),
or where its weights are not at hand a stated substitute, structural similarity and gradients.

VGG16's weights are torchvision's, a public file that the package neither brings nor downloads (`nn.weights`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.base.errors import MissingBackend
from nldf_engine.nn.backbones import tapped, vgg16
from nldf_engine.nn.lpips import LpipsNetwork
from nldf_engine.nn.weights import VGG16, fill, find, load

MEAN, SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Below this share of a layer's mean power, features count as none.
SMALLEST_POWER = 1e-6
WINDOW, SSIM_K1, SSIM_K2 = 7, 0.01, 0.03


class PictureLoss(nn.Module, ABC):
    """A loss over pictures.

    Attributes:
        name: what it is, for reports.
    """

    name: str

    @abstractmethod
    def forward(self, rendered: Tensor, real: Tensor) -> Tensor:
        """A scalar; of pictures [F, 3, H, W] in [0, 1], with gradients to the first."""
        ...


class VggLoss(PictureLoss):
    """Squared differences of features of VGG16 behind the last convolution of each block.

    Each layer's error is divided by the mean power of the real picture's features there, so that none
    outweighs the others by its scale.

    Args:
        folder: where VGG16's weights may be; torch's cache is searched as well.
        blocks: how many blocks of the network are used, 1 to 5.

    Raises:
        MissingBackend: the weights are nowhere.
        FileProblem: the file is damaged or something else.
        ValueError: another number of blocks.
    """

    name = "VGG16"
    mean: Tensor
    scale: Tensor

    def __init__(self, folder: Path | None = None, blocks: int = 3) -> None:
        super().__init__()
        backbone = vgg16(blocks)
        self.layers, self.taps = backbone.network(), backbone.taps
        path = find(VGG16, folder)
        state = {name.removeprefix("features."): value for name, value in load(VGG16, path).items()}
        fill(self.layers, state, VGG16, path)
        # As buffers: numbers of Python's would be copied to a GPU anew by every call, which waits for it.
        for name, values in (("mean", MEAN), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """The features behind each used block, [F, C, H, W] each, of pictures [F, 3, H, W] in [0, 1]."""
        return tapped(self.layers, self.taps, (pictures - self.mean) / self.scale)

    def forward(self, rendered: Tensor, real: Tensor) -> Tensor:
        """See `PictureLoss`."""
        with torch.no_grad():
            wanted = self.features(real)
        errors = [
            (a - b).square().mean() / b.square().mean().clamp_min(SMALLEST_POWER)
            for a, b in zip(self.features(rendered), wanted, strict=True)
        ]
        return torch.stack(errors).mean()


class LpipsLoss(PictureLoss):
    """LPIPS over AlexNet, whose weights come with the package: the mean over pictures of at least 32 x 32.

    Raises:
        FileProblem: the package's weights are damaged.
    """

    name = "LPIPS (AlexNet)"

    def __init__(self) -> None:
        super().__init__()
        self.network = LpipsNetwork("alex")

    def forward(self, rendered: Tensor, real: Tensor) -> Tensor:
        """See `PictureLoss`."""
        return self.network(2 * rendered - 1, 2 * real - 1).mean()


class StructureLoss(PictureLoss):
    """One minus the structural similarity over windows of 7 pixels, and differences of the gradients."""

    name = "SSIM and gradients"

    def forward(self, rendered: Tensor, real: Tensor) -> Tensor:
        """See `PictureLoss`."""
        moved = [(a - b).abs().mean() for a, b in zip(_gradients(rendered), _gradients(real), strict=True)]
        return (1 - structural_similarity(rendered, real)) / 2 + torch.stack(moved).mean()


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """The mean SSIM (Wang et al. 2004) of pictures [F, C, H, W] in [0, 1] over square windows; with
    gradients.

    Raises:
        ValueError: pictures smaller than a window.
    """
    if min(a.shape[2:]) < WINDOW:
        raise ValueError(f"pictures: expected sides of at least {WINDOW}, got {list(a.shape[2:])}")

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, WINDOW, 1)

    first, second = mean(a), mean(b)
    spread_a = mean(a * a) - first.square()
    spread_b = mean(b * b) - second.square()
    common = mean(a * b) - first * second
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    near = (2 * first * second + c1) * (2 * common + c2)
    return (near / ((first.square() + second.square() + c1) * (spread_a + spread_b + c2))).mean()


def _gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    return picture.diff(dim=2), picture.diff(dim=3)


def picture_loss(folder: Path | None = None, blocks: int = 3) -> tuple[PictureLoss, str]:
    """VGG16's loss, or the substitute and why it serves; the reason is empty where none is needed.

    Args:
        folder: where the user has VGG16's weights; None for torch's cache alone.
        blocks: as for `VggLoss`.

    Raises:
        FileProblem: a folder that is none, or a damaged file.
    """
    try:
        return VggLoss(folder, blocks), ""
    except MissingBackend as error:
        return StructureLoss(), str(error)
