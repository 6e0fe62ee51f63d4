"""What the report's pictures share: colours, the scale of errors, and figures of matplotlib.

The error is the mean absolute difference of the three colours. Its colour scale is the same in every
picture (black is 0, white is `ERROR_TOP` of the full range and above), so reports compare by eye.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nldf_engine.base.errors import MissingBackend
from nldf_engine.base.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ERROR_TOP = 0.25
INK, PAPER, GRID = "#22262b", "#ffffff", "#d9dde2"


def require_matplotlib() -> None:
    """Checks that the pictures can be drawn.

    Raises:
        MissingBackend: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingBackend(
            "matplotlib, which draws the report's pictures, is not installed",
            "pip install 'nldf_engine[evaluate]', or switch the pictures off",
        ) from error


def error_share(rendered: np.ndarray, real: np.ndarray) -> np.ndarray:
    """[H, W] float32 in [0, 1]: the mean absolute difference, where 1 stands for `ERROR_TOP` and above."""
    difference = np.abs(rendered.astype(np.int16) - real.astype(np.int16)).mean(axis=2, dtype=np.float32)
    return np.clip(difference / np.float32(255 * ERROR_TOP), 0, 1)


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches; matplotlib's global state is not touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=140, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Writes a figure, whole or not at all.

    Raises:
        FileProblem: it can't be written.
    """
    with atomic_path(path) as temporary:
        # No creation date or version inside: the same report is the same file.
        figure.savefig(temporary, format="png", metadata={"Software": None})
