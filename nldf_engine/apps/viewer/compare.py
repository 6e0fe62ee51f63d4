"""The real frame beside the rendered one, their difference, and how large it is."""

from __future__ import annotations

import numpy as np

from nldf_engine.evaluation.metrics.psnr import psnr
from nldf_engine.evaluation.report.drawing import error_share

CHECKER, DARK, LIGHT = 8, 150, 200
# Colours of the error map: dark blue over green and yellow to white, at equal steps of the share.
_HEAT = np.array(
    [(0, 0, 20), (20, 40, 120), (20, 130, 120), (120, 190, 40), (245, 200, 30), (255, 255, 255)], np.float64
)


def opaque(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 [H, W, 3 or 4] before a checkerboard where it is transparent: uint8 [H, W, 3]."""
    if picture.shape[2] == 3:
        return picture
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] // CHECKER
    board = np.where((x + y)[..., None] % 2, float(LIGHT), float(DARK))
    alpha = picture[..., 3:] / 255.0
    return np.asarray(alpha * picture[..., :3] + (1 - alpha) * board).round().astype(np.uint8)


def error_map(rendered: np.ndarray, real: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: the difference of two pictures in colours, on the scale of the reports."""
    share = error_share(rendered, real)
    steps = np.linspace(0, 1, len(_HEAT))
    channels = [np.interp(share, steps, _HEAT[:, c]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def at_size(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture scaled to a size: by area where it shrinks, by cubics where it grows."""
    import cv2

    if picture.shape[1::-1] == (width, height):
        return picture
    way = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way))


def beside(rendered: np.ndarray, real: np.ndarray, error: bool) -> tuple[np.ndarray, float]:
    """The real frame, the rendered one and, where asked for, the error map in a row; and the PSNR in dB.

    Args:
        rendered: uint8 [H, W, 3 or 4].
        real: uint8 [h, w, 3]; scaled to the rendered size.
        error: add the map.

    Returns:
        (uint8 [H, 2 W or 3 W, 3], PSNR over all pixels).
    """
    height, width = rendered.shape[:2]
    ours, theirs = opaque(rendered), at_size(real, width, height)
    row = [theirs, ours, *([error_map(ours, theirs)] if error else [])]
    return np.concatenate(row, 1), float(psnr(ours, theirs))


def letterboxed(picture: np.ndarray, aspect: float, paper: tuple[int, int, int]) -> np.ndarray:
    """The picture centred on paper of another aspect (width over height): uint8 [h, w, 3].

    A browser stretches its background over the whole page.
    """
    height, width = picture.shape[:2]
    across, down = max(width, round(height * aspect)), max(height, round(width / aspect))
    if aspect * height >= width:
        down = height
    else:
        across = width
    made = np.empty((down, across, 3), np.uint8)
    made[:] = paper
    top, left = (down - height) // 2, (across - width) // 2
    made[top : top + height, left : left + width] = picture
    return made
