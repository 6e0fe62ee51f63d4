"""What is behind the speaker: the avatar's own plate, a colour, a picture, or nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nldf_engine.media.pictures import read_picture, shrink

COLORS = {
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "gray": (128, 128, 128),
    "red": (255, 0, 0), "green": (0, 128, 0), "lime": (0, 255, 0), "blue": (0, 0, 255),
    "navy": (0, 0, 128), "teal": (0, 128, 128), "cyan": (0, 255, 255), "magenta": (255, 0, 255),
    "yellow": (255, 255, 0), "orange": (255, 165, 0), "pink": (255, 192, 203), "purple": (128, 0, 128),
    "brown": (165, 42, 42), "beige": (245, 245, 220), "silver": (192, 192, 192), "gold": (255, 215, 0),
}  # fmt: skip
TRANSPARENT = "transparent"
REMEDY = f"give a picture file, a colour ({', '.join(list(COLORS)[:6])}, ..., #rrggbb) or 'transparent'"
Background = str | Path | np.ndarray | Tensor | None


def parse_color(text: str) -> tuple[int, int, int] | None:
    """(r, g, b) of a name or of `#rgb` / `#rrggbb`; None where the text is neither.

    Example:
        >>> parse_color("#0f8"), parse_color("navy"), parse_color("room.png")
        ((0, 255, 136), (0, 0, 128), None)
    """
    if text.lower() in COLORS:
        return COLORS[text.lower()]
    if re.fullmatch(r"#[0-9a-fA-F]{3}", text):
        return tuple(int(digit * 2, 16) for digit in text[1:])  # type: ignore[return-value]
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    return None


def open_background(spec: Background) -> Background:
    """The spec with a picture's path replaced by the picture, uint8 [H, W, 3]; all else as it is.

    Raises:
        FileProblem: the picture can't be read.
    """
    if not isinstance(spec, str | Path):
        return spec
    if isinstance(spec, str) and (spec == TRANSPARENT or parse_color(spec) is not None):
        return spec
    return read_picture(spec, REMEDY)


def fit_picture(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture cut to the frame's aspect about its middle, and scaled to [height, width, 3]."""
    h, w = picture.shape[:2]
    scale = min(h / height, w / width)
    crop_h, crop_w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    crop = picture[top : top + crop_h, left : left + crop_w]
    if crop.shape[:2] == (height, width):
        return np.ascontiguousarray(crop)
    if crop_h >= height and crop_w >= width:
        return shrink(crop, height, width)
    planes = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)[None].float()
    larger = torch.nn.functional.interpolate(planes, (height, width), mode="bicubic", align_corners=False)
    return np.asarray(larger[0].permute(1, 2, 0).round().clamp(0, 255).byte().contiguous().numpy())


def resolve_background(spec: Background, plate: np.ndarray, height: int, width: int) -> Tensor | None:
    """[H, W, 3] float32 in [0, 1], or None for a transparent clip.

    Args:
        spec: None (the avatar's own plate), "transparent", a colour, a picture's path, or uint8 [H, W, 3].
        plate: uint8 [H, W, 3], the avatar's own background.
        height, width: of the frame.

    Raises:
        FileProblem: the picture can't be read.
        ValueError: an array of another shape or dtype.
    """
    spec = open_background(spec)
    if isinstance(spec, str) and spec == TRANSPARENT:
        return None
    if isinstance(spec, str) and (color := parse_color(spec)) is not None:
        return (torch.tensor(color, dtype=torch.float32) / 255).expand(height, width, 3).contiguous()
    if spec is None:
        picture = plate
    else:
        picture = np.asarray(spec)
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(
                f"background: expected uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}"
            )
    return torch.from_numpy(fit_picture(picture, height, width).astype(np.float32) / 255)
