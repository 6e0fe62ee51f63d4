"""Reference pictures of a speaker, and the features of their pixels (dfrf 3.2).

Shapes: R references of H x W pixels, D features of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.nn.frequency import encode_frequencies, frequency_dim
from nldf_engine.nn.linear import keep_spread
from nldf_engine.ops.products import exact_products


@dataclass(frozen=True)
class ExtractorSizes:
    """Sizes of the network that makes features of pictures. The defaults are the paper's, those of its
    public code where it says none.

    Args:
        features: D, of a pixel.
        channels: of both convolutions.
        color_frequencies, camera_frequencies: L of the encoded colours, and of the camera's encoded place.

    Raises:
        ValueError: a size below one.
    """

    features: int = 128
    channels: int = 64
    color_frequencies: int = 5
    camera_frequencies: int = 5

    def __post_init__(self) -> None:
        if min(self.features, self.channels) < 1:
            raise ValueError(f"ExtractorSizes: expected sizes of at least 1, got {self}")


@dataclass(frozen=True)
class References:
    """Pictures of one speaker and how they were seen.

    Args:
        pictures: [R, H, W, 3] uint8.
        poses: [R, 4, 4] float32, camera to head.
        views: [R, 4] float32, fx, fy, cx, cy in units of the picture's width.

    Raises:
        TypeError, ValueError: other shapes or kinds of numbers.
    """

    pictures: Tensor
    poses: Tensor
    views: Tensor

    def __post_init__(self) -> None:
        shape = list(self.pictures.shape)
        if len(shape) != 4 or shape[3] != 3 or not min(shape):
            raise ValueError(f"pictures: expected [R, H, W, 3], got {shape}")
        if self.pictures.dtype != torch.uint8:
            raise TypeError(f"pictures: expected uint8, got {self.pictures.dtype}")
        for name, expected in (("poses", [shape[0], 4, 4]), ("views", [shape[0], 4])):
            if list(getattr(self, name).shape) != expected:
                raise ValueError(f"{name}: expected {expected}, got {list(getattr(self, name).shape)}")

    def to(self, device: torch.device) -> References:
        """The same on another device."""
        return References(self.pictures.to(device), self.poses.to(device), self.views.to(device))

    @exact_products()
    def projections(self) -> Tensor:
        """[R, 3, 4] float32, from metres in head space to pixels of the pictures times depth (dfrf eq. 1)."""
        fx, fy, cx, cy = (self.views * self.pictures.shape[2]).unbind(1)
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        rows = [torch.stack(row, 1) for row in ((fx, zero, cx), (zero, fy, cy), (zero, zero, one))]
        turn = self.poses[:, :3, :3].transpose(1, 2)
        to_camera = torch.cat([turn, -turn @ self.poses[:, :3, 3:]], 2)
        return (torch.stack(rows, 1) @ to_camera).contiguous()


class ReferencePictures(nn.Module):
    """The reference pictures that an avatar keeps.

    Buffers: those of `References`; black, and seen from the head's origin, until `keep` is called.

    Args:
        count: R.
        height, width: of the pictures, pixels.
    """

    pictures: Tensor
    poses: Tensor
    views: Tensor

    def __init__(self, count: int, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pictures", torch.zeros(count, height, width, 3, dtype=torch.uint8))
        self.register_buffer("poses", torch.eye(4).repeat(count, 1, 1))
        self.register_buffer("views", torch.tensor([1.0, 1.0, 0.5, 0.5]).repeat(count, 1))

    def keep(self, references: References) -> None:
        """Takes these in place of what was there; of another number or size too."""
        given = references.to(self.pictures.device)
        self.pictures, self.poses, self.views = given.pictures, given.poses, given.views

    @property
    def references(self) -> References:
        """What it keeps."""
        return References(self.pictures, self.poses, self.views)


class Extractor(nn.Module):
    """Two convolutions without downsampling and a linear layer: pictures to features of their pixels.

    A pixel's inputs are its encoded colour and the encoded place of its camera. The camera's are the same
    everywhere in a picture, so that their share of the first convolution is that of a picture of ones.

    Args:
        sizes: see there.
        radius: metres, by which the camera's place is divided before it is encoded.
    """

    def __init__(self, sizes: ExtractorSizes, radius: float) -> None:
        super().__init__()
        self.sizes, self.radius = sizes, radius
        self.inputs = frequency_dim(3, sizes.color_frequencies), frequency_dim(3, sizes.camera_frequencies)
        channels = sizes.channels
        first = nn.Conv2d(sum(self.inputs), channels, 3, padding=1)
        second = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv1, self.conv2 = nn.Sequential(first, nn.ReLU()), nn.Sequential(second, nn.ReLU())
        self.fc = nn.Linear(channels, sizes.features)
        keep_spread(first, second)
        keep_spread(self.fc, rectified=False)

    def forward(self, references: References) -> Tensor:
        """[R, H, W, D]."""
        pictures, first = references.pictures, self.conv1[0]
        count, height, width, _ = pictures.shape
        assert isinstance(first, nn.Conv2d)
        of_color, of_camera = first.weight.split(self.inputs, 1)
        colors = encode_frequencies(pictures.to(first.weight) / 255, self.sizes.color_frequencies)
        hidden = F.conv2d(colors.permute(0, 3, 1, 2), of_color, first.bias, padding=1)
        places = encode_frequencies(references.poses[:, :3, 3] / self.radius, self.sizes.camera_frequencies)
        kernels = torch.einsum("oikl,ri->rokl", of_camera, places).flatten(0, 1)[:, None]
        shares = F.conv2d(hidden.new_ones(1, 1, height, width), kernels, padding=1)
        hidden = F.relu(hidden + shares.view(count, -1, height, width), inplace=True)
        made: Tensor = self.fc(self.conv2(hidden).permute(0, 2, 3, 1))
        return made

    def macs(self) -> int:
        """Multiply-adds for each pixel of a reference, weights only."""
        return sum(p.numel() for name, p in self.named_parameters() if name.endswith("weight"))
