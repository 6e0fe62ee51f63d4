"""The contact sheet: frames in columns, real, rendered, their error, and both mouths enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.evaluation.report.drawing import ERROR_TOP, INK, blank_figure, error_share, save_png

# Inches: a frame's width, what is between frames and between mouths, and the margins.
PANEL, GAP, MOUTH_GAP = 2.15, 0.06, 0.03
LEFT, RIGHT, TOP, BOTTOM = 0.95, 0.85, 1.15, 0.2
ROW_NAME: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 10}


@dataclass(frozen=True)
class Sample:
    """One column of the contact sheet.

    Args:
        frame: the frame's index in its dataset.
        real: [H, W, 3] uint8.
        rendered: [H, W, 3] uint8.
        psnr: over the whole frame, in dB.
        psnr_mouth: over the mouth box, in dB; NaN where the frame has none.
        mouth: the mouth box as (rows, columns).
    """

    frame: int
    real: np.ndarray
    rendered: np.ndarray
    psnr: float
    psnr_mouth: float
    mouth: tuple[slice, slice]


def _picture(axes: Any, image: np.ndarray, **style: Any) -> Any:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    return axes.imshow(image, aspect="equal", **style)


def contact_sheet(
    path: Path, samples: Sequence[Sample], title: str, subtitle: str, fps: float = 25.0
) -> None:
    """Draws frames in columns: real, rendered, error map, and the mouth of both, enlarged.

    Args:
        path: the PNG to write.
        samples: one a column, at least one, all of one size.
        title: first line, in bold.
        subtitle: second line, with the metrics.
        fps: frames a second, for the times above the columns.

    Raises:
        ValueError: no samples.
        FileProblem: the file can't be written.
    """
    if not samples:
        raise ValueError("samples: expected at least one frame to show, got none")
    sheet = _Sheet(samples)
    views = _mouth_views(samples)
    for column, (sample, view) in enumerate(zip(samples, views, strict=True)):
        errors = _draw_column(sheet, column, sample, view, fps)
    for row, name in enumerate(("real", "rendered", "error")):
        sheet.write(LEFT - 0.14, sheet.tops[row] + sheet.height / 2, name, **ROW_NAME)
    if any(view is not None for view in views):
        sheet.write(LEFT - 0.14, sheet.tops[3] + sheet.half / 2, "mouths", **ROW_NAME)
    _draw_scale(sheet, errors)
    sheet.write(LEFT, 0.36, title, fontsize=15, fontweight="bold")
    sheet.write(LEFT, 0.66, subtitle, fontsize=9.5)
    save_png(sheet.figure, path)


class _Sheet:
    """The page: its figure, and where things are on it, in inches from the upper left corner."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        frame_height, frame_width = samples[0].real.shape[:2]
        self.height = PANEL * frame_height / frame_width
        self.half = (PANEL - MOUTH_GAP) / 2
        self.tops = [TOP + row * (self.height + GAP) for row in range(4)]
        self.page_width = LEFT + max(len(samples), 4) * (PANEL + GAP) - GAP + RIGHT
        self.page_height = self.tops[3] + self.half + BOTTOM
        self.figure = blank_figure(self.page_width, self.page_height)

    def place(self, x: float, y: float, width: float, height: float) -> Any:
        """Axes of that place and size."""
        y = self.page_height - y - height
        share = (self.page_width, self.page_height)
        return self.figure.add_axes((x / share[0], y / share[1], width / share[0], height / share[1]))

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """Text at that place."""
        self.figure.text(x / self.page_width, 1 - y / self.page_height, text, color=INK, **style)


def _draw_column(
    sheet: _Sheet, column: int, sample: Sample, view: tuple[slice, slice] | None, fps: float
) -> Any:
    """Draws one frame; returns the image of its errors, whose colours the scale explains."""
    x = LEFT + column * (PANEL + GAP)
    share = error_share(sample.rendered, sample.real)
    scale: dict[str, Any] = {"cmap": "magma", "vmin": 0, "vmax": 1}
    for row, image in enumerate((sample.real, sample.rendered, share)):
        axes = sheet.place(x, sheet.tops[row], PANEL, sheet.height)
        drawn = _picture(axes, image, interpolation="antialiased", **(scale if row == 2 else {}))
        if row == 0:
            heading = f"frame {sample.frame}  ({sample.frame / fps:.2f} s)"
            axes.set_title(heading, fontsize=8, color=INK, pad=4)
    _note(axes, f"{sample.psnr:.2f} dB", 9)
    if view is not None:
        for index, image in enumerate((sample.real, sample.rendered)):
            axes = sheet.place(x + index * (sheet.half + MOUTH_GAP), sheet.tops[3], sheet.half, sheet.half)
            _picture(axes, image[view], interpolation="bicubic")
        _note(axes, f"{sample.psnr_mouth:.2f} dB", 7.5)
    return drawn


def _draw_scale(sheet: _Sheet, errors: Any) -> None:
    """The scale of the errors' colours, beside their row."""
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    beside = sheet.place(sheet.page_width - RIGHT + 0.12, sheet.tops[2], 0.13, sheet.height)
    bar = sheet.figure.colorbar(errors, cax=beside, ticks=ticks)
    labels = [f"{100 * ERROR_TOP * tick:g} %" for tick in ticks]
    bar.ax.set_yticklabels([*labels[:-1], "≥" + labels[-1]], fontsize=7, color=INK)
    bar.outline.set_visible(False)


def _note(axes: Any, text: str, size: float) -> None:
    """Text in the lower left corner of a picture, readable on any colour."""
    from matplotlib.patheffects import withStroke

    axes.text(
        0.03, 0.04, text, transform=axes.transAxes, color="white", fontsize=size, fontweight="bold",
        path_effects=[withStroke(linewidth=1.5, foreground="#000000b0")],
    )  # fmt: skip


def _mouth_views(samples: Sequence[Sample]) -> list[tuple[slice, slice] | None]:
    """A square around each mouth box, all of one size so that the mouths compare; None without a box."""
    height, width = samples[0].real.shape[:2]
    boxes = [sample.mouth for sample in samples]
    side = max(max(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes)
    side = min(side, height, width)
    views: list[tuple[slice, slice] | None] = []
    for rows, columns in boxes:
        y = min(max((rows.start + rows.stop - side) // 2, 0), height - side)
        x = min(max((columns.start + columns.stop - side) // 2, 0), width - side)
        empty = rows.start == rows.stop or columns.start == columns.stop
        views.append(None if empty else (slice(y, y + side), slice(x, x + side)))
    return views
