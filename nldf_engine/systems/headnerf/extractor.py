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
# It looks within this ellipse, as shares of the half width and height: clothes and backdrop would tell
# speakers apart.
ELLIPSE = 0.68, 0.86
PLAIN = 0.5


def face_places() -> tuple[Tensor, Tensor]:
    """x and y [48, 48] of a face's pixels, in [-1, 1]: about 0.1 m of a person's face."""
    steps = (torch.arange(FACE_SIDE) + 0.5) / FACE_SIDE * 2 - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return x, y


class CodeExtractor(nn.Module):
    """Four convolutions of stride 2, and a linear head for each code.

    Args:
        sizes: of the codes.
    """

    inside: Tensor

    def __init__(self, sizes: CodeSizes) -> None:
        super().__init__()
        x, y = face_places()
        self.register_buffer("inside", ((x / ELLIPSE[0]).square() + (y / ELLIPSE[1]).square() < 1).float())
        layers: list[nn.Module] = []
        width = 3
        for wide in WIDTHS:
            layers += [nn.Conv2d(width, wide, 3, stride=2, padding=1), nn.LeakyReLU(0.1)]
            width = wide
        self.body = nn.Sequential(*layers, nn.Flatten())
        side = FACE_SIDE >> len(WIDTHS)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(width * side * side, getattr(sizes, name)) for name in FACTORS}
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
        seen = self.body(4 * self.inside * (faces - PLAIN))
        codes = {name: self.heads[name](seen) for name in FACTORS}
        return {name: F.normalize(code, dim=1) * code.shape[1] ** 0.5 for name, code in codes.items()}
