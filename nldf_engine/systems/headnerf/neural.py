"""The 2-D neural renderer: a feature map to a picture with opacity, doubled in size by each stage (headnerf
3.2).

A stage is HeadNeRF's: two convolutions to four times the features, the input added to them four times over,
pixel shuffle, a 1-2-1 blur, and a convolution to half as many features. Each stage adds to the picture so
far, which is doubled bilinearly and blurred. Beside the colours a fourth channel is the opacity, so that any
background can stand behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
CHANNELS = 4
# The volume's own opacity begins the picture's: half of a ray is undecided, none and all are sure.
OPACITY_SLOPE = 8.0
MOST_STAGES = 6


@dataclass(frozen=True)
class RendererSizes:
    """Sizes of the 2-D renderer. The defaults are HeadNeRF's.

    Args:
        stages: by how many doublings the picture is larger than the feature map.
        kernel: side of each stage's first convolution; 1 sees a pixel alone, which keeps views consistent.
        narrowest: features that a stage has at least.

    Raises:
        ValueError: a number of stages or a width that can't be meant, or an even kernel.
    """

    stages: int = 3
    kernel: int = 1
    narrowest: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.stages <= MOST_STAGES or self.narrowest < 1:
            raise ValueError(
                f"RendererSizes: expected 1 to {MOST_STAGES} stages and a width of at least 1, got {self}"
            )
        if self.kernel not in (1, 3):
            raise ValueError(f"RendererSizes: kernel must be 1 or 3, got {self.kernel}")


def blur(picture: Tensor) -> Tensor:
    """[F, C, H, W] under the filter 1-2-1 in both directions; borders are repeated.

    One depthwise convolution: with the channels last it costs a fifth of sums of shifted pictures.
    """
    channels = picture.shape[1]
    line = picture.new_tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)


def pointwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1 x 1 convolution of [F, h, w, C], channels last, as the matrix product that it is.

    PyTorch's convolution has no fast path for it on one thread.
    """
    return F.linear(x, layer.weight.flatten(1), layer.bias)


class Stage2D(nn.Module):
    """One doubling: [F, h, w, C] to [F, 2 h, 2 w, C'].

    Args:
        features: C.
        out: C'.
        kernel: of the first convolution.
    """

    def __init__(self, features: int, out: int, kernel: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, 2 * features, kernel, padding=kernel // 2)
        self.second = nn.Conv2d(2 * features, 4 * features, 1)
        self.last = nn.Conv2d(features, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        frames, height, width, channels = x.shape
        if self.first.kernel_size == (1, 1):
            wide = pointwise(self.first, x)
        else:
            wide = self.first(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        wide = F.leaky_relu(wide, SLOPE, inplace=True)
        # The four values of a channel go to a pixel's four: in this order of rows the shuffle moves whole
        # pixels. Each of them gets the input once.
        weight, bias = self.second.weight, self.second.bias
        assert bias is not None
        rows = weight.view(channels, 4, -1).transpose(0, 1).flatten(0, 1)
        wide = F.linear(wide, rows, bias.view(channels, 4).t().flatten())
        wide = wide.unflatten(-1, (4, channels)) + x[..., None, :]
        wide = F.leaky_relu(wide, SLOPE, inplace=True)
        shuffled = wide.view(frames, height, width, 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
        larger = shuffled.reshape(frames, 2 * height, 2 * width, channels)
        smooth = blur(larger.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return F.leaky_relu(pointwise(self.last, smooth), SLOPE, inplace=True)


class NeuralRenderer(nn.Module):
    """Feature maps to pictures.

    Args:
        features: C of the map.
        sizes: of the renderer.
    """

    def __init__(self, features: int, sizes: RendererSizes) -> None:
        super().__init__()
        widths = [max(sizes.narrowest, features >> level) for level in range(1, sizes.stages + 1)]
        inputs = [features, *widths[:-1]]
        self.stages = nn.ModuleList(Stage2D(a, b, sizes.kernel) for a, b in zip(inputs, widths, strict=True))
        self.skips = nn.ModuleList(nn.Conv2d(width, CHANNELS, 1) for width in (features, *widths))

    def forward(self, features: Tensor, opacity: Tensor) -> tuple[Tensor, Tensor]:
        """Colour and opacity of pictures.

        Args:
            features: [F, C, h, w].
            opacity: [F, h, w] in [0, 1], the volume's.

        Returns:
            color [F, 3, H, W] in [0, 1], not premultiplied, and alpha [F, H, W] in [0, 1]; H = 2^stages h.
        """
        x = features.permute(0, 2, 3, 1)
        first, *rest = self._skips()
        picture = pointwise(first, x).permute(0, 3, 1, 2)
        sure = OPACITY_SLOPE * (opacity - 0.5)
        picture = torch.cat([picture[:, :3], picture[:, 3:] + sure[:, None].to(picture.dtype)], 1)
        for stage, skip in zip(self.stages, rest, strict=True):
            x = stage(x)
            larger = F.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)
            picture = blur(larger) + pointwise(skip, x).permute(0, 3, 1, 2)
        picture = torch.sigmoid(picture.float())
        return picture[:, :3], picture[:, 3]

    @property
    def macs(self) -> int:
        """Multiply-adds for each pixel of the feature map, weights only."""
        total = sum(skip.weight.numel() << 2 * level for level, skip in enumerate(self._skips()))
        for level, stage in enumerate(self.stages):
            small = sum(getattr(stage, name).weight.numel() for name in ("first", "second"))
            total += (small << 2 * level) + (stage.last.weight.numel() << 2 * (level + 1))  # type: ignore[union-attr,operator]
        return total

    def _skips(self) -> list[nn.Conv2d]:
        return [skip for skip in self.skips if isinstance(skip, nn.Conv2d)]
