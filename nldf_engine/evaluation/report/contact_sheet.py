"""The contact sheet: frames in columns, real, rendered, their error, and both mouths enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.evaluation.report.drawing import ERROR_TOP, INK, blank_figure, error_share, save_png

PANEL, MOUTH_GAP = 2.15, 0.03  # inches


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
        subtitle: second line, with the figures.
        fps: frames a second, for the times above the columns.

    Raises:
        ValueError: no samples.
        FileProblem: the file can't be written.
    """
    if not samples:
        raise ValueError("samples: expected at least one frame to show, got none")
    frame_height, frame_width = samples[0].real.shape[:2]
    width, height, gap = PANEL, PANEL * frame_height / frame_width, 0.06
    half = (width - MOUTH_GAP) / 2
    left, right, top, bottom = 0.95, 0.85, 1.15, 0.2
    tops = [top + row * (height + gap) for row in range(4)]
    page_width = left + max(len(samples), 4) * (width + gap) - gap + right
    page_height = tops[3] + half + bottom
    figure = blank_figure(page_width, page_height)

    def place(x: float, y: float, w: float, h: float) -> Any:
        """Axes at inches from the upper left corner."""
        y = page_height - y - h
        return figure.add_axes((x / page_width, y / page_height, w / page_width, h / page_height))

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / page_width, 1 - y / page_height, text, color=INK, **style)

    views = _mouth_views(samples)
    for column, (sample, view) in enumerate(zip(samples, views, strict=True)):
        x = left + column * (width + gap)
        share = error_share(sample.rendered, sample.real)
        scale: dict[str, Any] = {"cmap": "magma", "vmin": 0, "vmax": 1}
        for row, image in enumerate((sample.real, sample.rendered, share)):
            axes = place(x, tops[row], width, height)
            drawn = _picture(axes, image, interpolation="antialiased", **(scale if row == 2 else {}))
            if row == 0:
                heading = f"frame {sample.frame}  ({sample.frame / fps:.2f} s)"
                axes.set_title(heading, fontsize=8, color=INK, pad=4)
        _note(axes, f"{sample.psnr:.2f} dB", 9)
        if view is not None:
            for index, image in enumerate((sample.real, sample.rendered)):
                axes = place(x + index * (half + MOUTH_GAP), tops[3], half, half)
                _picture(axes, image[view], interpolation="bicubic")
            _note(axes, f"{sample.psnr_mouth:.2f} dB", 7.5)

    for row, name in enumerate(("real", "rendered", "error")):
        write(left - 0.14, tops[row] + height / 2, name, ha="right", va="center", fontsize=10)
    if any(view is not None for view in views):
        write(left - 0.14, tops[3] + half / 2, "mouths", ha="right", va="center", fontsize=10)
    bar = figure.colorbar(
        drawn, cax=place(page_width - right + 0.12, tops[2], 0.13, height), ticks=[0, 0.2, 0.4, 0.6, 0.8, 1]
    )
    labels = [f"{100 * ERROR_TOP * tick:g} %" for tick in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    bar.ax.set_yticklabels([*labels[:-1], "≥" + labels[-1]], fontsize=7, color=INK)
    bar.outline.set_visible(False)
    write(left, 0.36, title, fontsize=15, fontweight="bold")
    write(left, 0.66, subtitle, fontsize=9.5)
    save_png(figure, path)


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
