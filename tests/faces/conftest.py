"""A photographed face to look for: scikit-image's picture of an astronaut (NASA, public domain)."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A head and shoulders, uint8 [300, 300, 3]."""
    data = pytest.importorskip("skimage.data", reason="scikit-image with its photograph is not installed")
    return np.ascontiguousarray(data.astronaut()[0:300, 70:370])


def placed(photo: np.ndarray, angle: float = 0.0, scale: float = 1.0, side: int = 300) -> np.ndarray:
    """The photograph turned clockwise by `angle` degrees about its middle and scaled, on gray."""
    import cv2

    matrix = cv2.getRotationMatrix2D((150, 150), -angle, scale)
    matrix[:, 2] += side / 2 - 150
    return cv2.warpAffine(photo, matrix, (side, side), flags=cv2.INTER_AREA, borderValue=(110, 110, 110))


def moved(points: np.ndarray, angle: float, scale: float = 1.0, side: int = 300) -> np.ndarray:
    """Where points [L, 2] of the photograph are in `placed`."""
    import cv2

    matrix = cv2.getRotationMatrix2D((150, 150), -angle, scale)
    matrix[:, 2] += side / 2 - 150
    return points @ matrix[:, :2].T + matrix[:, 2]
