"""Pinhole cameras: OpenCV axes (x right, y down, z forward), pixel centres at +0.5, focal in pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from nldf_engine.base.json import decode


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion.

    Args:
        width, height: image size in pixels, at least 1.
        fx, fy: focal lengths in pixels, positive.
        cx, cy: principal point in pixels, in the frame where the first pixel's centre is (0.5, 0.5).

    Raises:
        ValueError: a size or focal length is not positive, or a value is not finite.

    Example:
        >>> Camera(512, 512, 1000.0, 1000.0, 256.0, 256.0).scaled(128).fx
        250.0
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"Camera: width and height must be at least 1, got {self.width} x {self.height}")
        values = torch.tensor([self.fx, self.fy, self.cx, self.cy], dtype=torch.float64)
        if not bool(torch.isfinite(values).all()) or self.fx <= 0 or self.fy <= 0:
            raise ValueError(
                f"Camera: fx and fy must be positive and everything finite, "
                f"got fx={self.fx}, fy={self.fy}, cx={self.cx}, cy={self.cy}"
            )

    def scaled(self, width: int, height: int | None = None) -> Camera:
        """The same view at another resolution; `height` follows the aspect where it is not given."""
        height = max(1, round(self.height * width / self.width)) if height is None else height
        x, y = width / self.width, height / self.height
        return Camera(width, height, self.fx * x, self.fy * y, self.cx * x, self.cy * y)

    def intrinsics(self, device: torch.device | str = "cpu") -> Tensor:
        """[4] float32: fx, fy, cx, cy."""
        return torch.tensor([self.fx, self.fy, self.cx, self.cy], dtype=torch.float32, device=device)

    def pixels(self, device: torch.device | str = "cpu") -> Tensor:
        """[H*W, 2] float32: the (x, y) of every pixel's centre, row by row."""
        y, x = torch.meshgrid(
            torch.arange(self.height, dtype=torch.float32, device=device) + 0.5,
            torch.arange(self.width, dtype=torch.float32, device=device) + 0.5,
            indexing="ij",
        )
        return torch.stack([x, y], -1).reshape(-1, 2)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Camera:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: a key is missing or unknown, or a value is no number or out of its range.
        """
        return decode(cls, value, "camera")
