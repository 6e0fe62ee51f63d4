"""The warp that moves points in reference pictures as the speech moves the face (dfrf 3.3).

Shapes: F frames, P points in all, R references, D features of a reference's pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.nn.linear import linear_at


@dataclass(frozen=True)
class WarpSizes:
    """Sizes of the warp. The defaults are those of the paper's public code.

    Args:
        widths: of its two hidden layers.
        limit: the largest offset along an axis, in units of the picture's width.
        on: whether there is a warp at all (dfrf table 3).

    Raises:
        ValueError: other than two widths of at least one, or a limit outside of (0, 1].
    """

    widths: tuple[int, ...] = (128, 32)
    limit: float = 10 / 512
    on: bool = True

    def __post_init__(self) -> None:
        if len(self.widths) != 2 or min(self.widths) < 1 or not 0 < self.limit <= 1:
            raise ValueError(f"WarpSizes: expected two widths and a limit in (0, 1], got {self}")


class WarpField(nn.Module):
    """D(p, A, F_n) -> offset, three layers (dfrf eq. 3). It begins with next to no offset.

    The first layer is linear in the reference's feature. Its share is computed once for each pixel of the
    references (`share`), and looked up; the point's share is the same for all references, and the code's for
    all points of a frame.

    Args:
        points: size of an encoded point.
        code: size of a frame's code.
        features: D.
        sizes: see there.
    """

    def __init__(self, points: int, code: int, features: int, sizes: WarpSizes) -> None:
        super().__init__()
        self.inputs, self.limit = (points, code, features), sizes.limit
        first, second = sizes.widths
        self.mlp = nn.Sequential(
            nn.Linear(sum(self.inputs), first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(),
            nn.Linear(second, 2),
        )  # fmt: skip
        last = linear_at(self.mlp, 4)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)

    def share(self, features: Tensor) -> Tensor:
        """[..., h], the first layer's share of features [..., D]; no gradient flows to them, as in the public
        code."""
        return F.linear(features.detach(), linear_at(self.mlp, 0).weight[:, -self.inputs[2] :])

    def forward(self, encoded: Tensor, code: Tensor, shares: Tensor) -> Tensor:
        """Offsets [P, R, 2], x and y in units of the picture's width.

        Args:
            encoded: [F, P / F, points] encoded points.
            code: [F, code]; no gradient flows to it, as in the public code.
            shares: [P, R, h], of `share`, where the points are in the references.
        """
        first = linear_at(self.mlp, 0)
        of_points, of_code, _ = first.weight.split(self.inputs, 1)
        bias = torch.addmm(first.bias, code.detach(), of_code.t())
        own = torch.baddbmm(bias[:, None], encoded, of_points.t().expand(len(encoded), -1, -1))
        hidden = F.relu(own.view(-1, 1, own.shape[-1]) + shares, inplace=True)
        raw: Tensor = self.mlp[2:](hidden)
        return self.limit * raw.clamp(-1, 1)

    @property
    def macs(self) -> tuple[int, int]:
        """Multiply-adds, weights only: for each point; for each point and reference."""
        first, second = linear_at(self.mlp, 0).out_features, linear_at(self.mlp, 2).out_features
        return first * self.inputs[0], second * (first + 2)
