"""Which rays can meet the head: an occupancy map on the plane z = 0 of head space.

A ray is looked up where it crosses that plane, so one small map serves every pose. Rays outside of it
never reach the network: on a head-and-shoulders video that is over half of the picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESOLUTION = 96


def plane_points(origins: Tensor, directions: Tensor) -> Tensor:
    """[..., 2]: where rays cross the plane z = 0 of head space, metres. Parallel rays give infinity."""
    distance = -origins[..., 2:] / directions[..., 2:]
    return origins[..., :2] + distance * directions[..., :2]


class HeadRegion(nn.Module):
    """An occupancy map over the head plane.

    Args:
        half_size: half the side of the square that the map covers, metres.
    """

    occupancy: Tensor
    half_size: Tensor

    def __init__(self, half_size: float = 0.4) -> None:
        super().__init__()
        self.register_buffer("occupancy", torch.ones(RESOLUTION, RESOLUTION, dtype=torch.uint8))
        self.register_buffer("half_size", torch.tensor(float(half_size)))

    def _cells(self, points: Tensor) -> tuple[Tensor, Tensor]:
        unit = points / self.half_size * 0.5 + 0.5
        inside = ((unit >= 0) & (unit < 1)).all(-1)
        cell = (unit.nan_to_num(0, 0, 0).clamp(0, 1 - 1e-6) * RESOLUTION).long()
        return cell[..., 1] * RESOLUTION + cell[..., 0], inside

    def select(self, origins: Tensor, directions: Tensor) -> Tensor:
        """[...] bool: which rays may meet the head. Takes [..., 3] origins and directions."""
        cells, inside = self._cells(plane_points(origins, directions))
        return inside & (self.occupancy.view(-1).take(cells) > 0)

    def points(self) -> Tensor:
        """[N, 2] metres: the corners of all marked cells."""
        rows, columns = self.occupancy.nonzero(as_tuple=True)
        cells = torch.stack([columns, rows], 1).float()
        corners = torch.cat([cells, cells + 1])
        return (corners / RESOLUTION * 2 - 1) * self.half_size

    def clear(self) -> None:
        """Empties the map, before `add` fills it."""
        self.occupancy.zero_()

    def add(self, origins: Tensor, directions: Tensor) -> None:
        """Marks the cells that these rays [N, 3] cross."""
        cells, inside = self._cells(plane_points(origins, directions))
        self.occupancy.view(-1)[cells[inside]] = 1

    def include(self, other: HeadRegion) -> None:
        """Marks the cells that another map of the same square marks.

        Raises:
            ValueError: it covers another square.
        """
        if not torch.equal(self.half_size.cpu(), other.half_size.cpu()):
            raise ValueError(
                f"region: expected a map of {float(self.half_size):g} m, got {float(other.half_size):g} m"
            )
        self.occupancy.copy_(torch.maximum(self.occupancy, other.occupancy.to(self.occupancy.device)))

    def grow(self, cells: int = 1) -> None:
        """Widens the map by `cells` on every side, and closes its holes."""
        for _ in range(cells):
            grown = F.max_pool2d(self.occupancy[None, None].float(), 3, 1, 1)
            self.occupancy.copy_(grown[0, 0].to(torch.uint8))
