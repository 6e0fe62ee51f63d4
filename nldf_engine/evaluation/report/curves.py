"""Curves over the frames of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.evaluation.report.drawing import GRID, INK, blank_figure, save_png

REAL, RENDERED, WRONG = "#22262b", "#0b7285", "#e8590c"


def curves(
    path: Path,
    values: Mapping[str, np.ndarray],
    title: str,
    subtitle: str,
    start: int = 0,
    fps: float = 25.0,
    every: int = 1,
) -> None:
    """Draws PSNR over time, and under it the lip gap of the real and of the rendered frames.

    Args:
        path: the PNG to write.
        values: [T] float64 each: `psnr` and, as far as they exist, `psnr_foreground`, `psnr_mouth`,
            `lip_gap_real`, `lip_gap_rendered`, `lip_gap_shuffled`; NaN leaves a hole.
        title: first line, in bold.
        subtitle: second line.
        start: index of the first frame in its dataset.
        fps: frames a second.
        every: which frames the values are of.

    Raises:
        FileProblem: the file can't be written.
    """
    seconds = (start + every * np.arange(len(values["psnr"]))) / fps
    lips = "lip_gap_real" in values
    figure = blank_figure(12, 6.6 if lips else 4.0)
    inches = figure.get_figheight()
    grid = figure.add_gridspec(
        2 if lips else 1, 1, left=0.07, right=0.985, top=1 - 0.95 / inches, bottom=0.55 / inches, hspace=0.16
    )
    axes = figure.add_subplot(grid[0])
    for name, label, colour in (
        ("psnr", "full frame", REAL),
        ("psnr_foreground", "foreground", RENDERED),
        ("psnr_mouth", "mouth", WRONG),
    ):
        if np.isfinite(values[name]).any():
            average = float(np.nanmean(values[name]))
            axes.plot(seconds, values[name], color=colour, lw=1.3, label=f"{label}  {average:.2f} dB")
    axes.set_ylabel("PSNR, dB", color=INK)
    plots = [axes]
    if lips:
        below = figure.add_subplot(grid[1], sharex=axes)
        styles: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("lip_gap_shuffled", "rendered, wrong audio", {"color": WRONG, "lw": 1.0, "ls": (0, (4, 2))}),
            ("lip_gap_rendered", "rendered, true audio", {"color": RENDERED, "lw": 1.5}),
            ("lip_gap_real", "real", {"color": REAL, "lw": 1.5}),
        )
        for name, label, style in styles:
            if name not in values:
                continue
            below.plot(seconds, values[name], label=label, **style)
        below.set_ylabel("lip gap / eye distance", color=INK)
        below.set_ylim(bottom=0)
        axes.tick_params(labelbottom=False)
        plots.append(below)
    for plot in plots:
        plot.grid(color=GRID, lw=0.6)
        plot.set_axisbelow(True)
        plot.margins(x=0.01)
        plot.tick_params(labelsize=9, colors=INK)
        for name in ("top", "right"):
            plot.spines[name].set_visible(False)
        plot.legend(
            reverse=plot is not axes,
            loc="lower right",
            bbox_to_anchor=(1, 1.0),
            ncols=3,
            frameon=False,
            fontsize=9,
        )
    plots[-1].set_xlabel("seconds into the dataset", color=INK)
    figure.text(0.07, 1 - 0.36 / inches, title, fontsize=14, fontweight="bold", color=INK)
    figure.text(0.07, 1 - 0.62 / inches, subtitle, fontsize=9.5, color=INK)
    save_png(figure, path)
