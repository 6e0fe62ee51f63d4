"""The latent code extractor: what a picture of a face says of identity, expression, albedo and illumination.

Headnerf 3.3 pre-trains one, by contrast, for the codes that the disentangling loss (eq. 6) pulls towards. It
looks at faces whose eyes are always at the same places. It is part of training alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.systems.headnerf.codes import CodeSizes

FACTORS = ("identity", "expression", "albedo", "illumination")
FACE_SIDE = 48
WIDTHS = (24, 32, 64, 64)
# It looks within this ellipse, as shares of the half width and height: clothes and backdrop would give
# speakers away.
ELLIPSE = 0.68, 0.86
# Of the heads that see no colours.
SHAPE_FACTORS = ("identity", "expression")
FIELDS, COLOR_WIDTH, SLOPE = 6, 64, 0.1
DARKEST, SMALLEST_POWER = 0.05, 1e-4


def face_places() -> tuple[Tensor, Tensor]:
    """x and y [48, 48] of a face's pixels, in [-1, 1]: about 0.1 m of a person's face."""
    steps = (torch.arange(FACE_SIDE) + 0.5) / FACE_SIDE * 2 - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return x, y


def within(ellipse: tuple[float, float]) -> Tensor:
    """[48, 48] bool: a face's pixels in an ellipse about its middle, of these shares of its half width and
    height."""
    x, y = face_places()
    return (x / ellipse[0]).square() + (y / ellipse[1]).square() < 1


class CodeExtractor(nn.Module):
    """Identity and expression by four convolutions, albedo and illumination by two linear layers.

    The convolutions see a picture without colours, of one brightness and contrast; the linear layers see the
    logarithm of its colours, averaged over six by six fields. So neither can use what is the other's.

    Args:
        sizes: of the codes.
    """

    inside: Tensor

    def __init__(self, sizes: CodeSizes) -> None:
        super().__init__()
        self.register_buffer("inside", within(ELLIPSE).float())
        layers: list[nn.Module] = []
        width = 1
        for wide in WIDTHS:
            layers += [nn.Conv2d(width, wide, 3, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
            width = wide
        side = FACE_SIDE >> len(WIDTHS)
        self.shape = nn.Sequential(*layers, nn.Flatten())
        self.color = nn.Sequential(nn.Linear(3 * FIELDS * FIELDS, COLOR_WIDTH), nn.LeakyReLU(SLOPE))
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(
                    width * side * side if name in SHAPE_FACTORS else COLOR_WIDTH, getattr(sizes, name)
                )
                for name in FACTORS
            }
        )

    def forward(self, faces: Tensor) -> dict[str, Tensor]:
        """A code [N, C] for each factor, of length sqrt(C).

        Args:
            faces: [N, 3, 48, 48] in [0, 1].

        Raises:
            ValueError: pictures of another size.
        """
        if tuple(faces.shape[1:]) != (3, FACE_SIDE, FACE_SIDE):
            raise ValueError(f"faces: expected [N, 3, {FACE_SIDE}, {FACE_SIDE}], got {list(faces.shape)}")
        light = (faces + DARKEST).log()
        shape, color = self.shape(self._plain(light.mean(1, keepdim=True))), self.color(self._fields(light))
        codes = {name: self.heads[name](shape if name in SHAPE_FACTORS else color) for name in FACTORS}
        return {name: F.normalize(code, dim=1) * code.shape[1] ** 0.5 for name, code in codes.items()}

    def _plain(self, level: Tensor) -> Tensor:
        """[N, 1, 48, 48] logarithmic brightness, of mean 0 and deviation 1 inside of the ellipse, 0
        outside."""
        count = self.inside.sum()
        about = self.inside * (level - (self.inside * level).sum((2, 3), keepdim=True) / count)
        power = about.square().sum((2, 3), keepdim=True) / count
        return about / (power + SMALLEST_POWER).sqrt()

    def _fields(self, light: Tensor) -> Tensor:
        """[N, 3 * 36] means of the logarithmic colours [N, 3, 48, 48] over fields, inside of the ellipse."""
        share = F.adaptive_avg_pool2d(self.inside[None, None], FIELDS)
        return (F.adaptive_avg_pool2d(self.inside * light, FIELDS) / share.clamp_min(1e-3)).flatten(1)
