"""LPIPS of frames, over AlexNet out of the box, over VGG16 where its weights are at hand (`nn.lpips`).

No other distance replaces it: `lpips` in a report is LPIPS or null.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nldf_engine.base.errors import MissingBackend
from nldf_engine.nn.lpips import LpipsNetwork

SMALLEST_SIDE = 32


class Lpips:
    """LPIPS 0.1 of frames, on the CPU.

    Args:
        net, weights: as for `LpipsNetwork`.

    Attributes:
        files: the files of weights in use.

    Raises:
        As `LpipsNetwork`.
    """

    def __init__(self, net: str = "alex", weights: Path | None = None) -> None:
        self._network = LpipsNetwork(net, weights)
        self.files = self._network.files

    @torch.no_grad()
    def __call__(self, rendered: np.ndarray, real: np.ndarray) -> float:
        """LPIPS of two uint8 [H, W, 3] frames of at least 32x32; smaller is more alike."""
        pair = np.stack([rendered, real]).astype(np.float32) / 127.5 - 1.0
        pictures = torch.from_numpy(pair).permute(0, 3, 1, 2).contiguous()
        return float(self._network(pictures[:1], pictures[1:]))


def load_lpips(weights: Path | None, width: int, height: int, net: str = "alex") -> tuple[Lpips | None, str]:
    """LPIPS for frames of this size, or None and the reason why there is none.

    Raises:
        FileProblem: a file of weights is there but can't be used, or the package's is not as shipped.
    """
    if min(width, height) < SMALLEST_SIDE:
        return None, f"LPIPS needs frames of at least {SMALLEST_SIDE} pixels, these are {width}x{height}"
    try:
        return Lpips(net, weights), ""
    except MissingBackend as error:
        return None, str(error)
