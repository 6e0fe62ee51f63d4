"""Curves over the frames of a clip: drawn once, for the picture and for the page."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nldf_engine.evaluation.report.drawing import GRID, INK, blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "ink": INK, "blue": "#0b7285", "orange": "#e8590c", "violet": "#5f3dc4", "grey": "#868e96",
}  # fmt: skip
LEFT, RIGHT = 0.07, 0.985
"""Where the axes begin and end, as shares of the figure's width: the page finds a frame by them."""
HEIGHT, ABOVE, BELOW = 1.85, 0.95, 0.55
"""Inches: of a chart, for the title, for the numbers of the frames."""


@dataclass(frozen=True)
class Curve:
    """A line of a chart: a metric of `frames.json`, its label, a name of `COLOURS`, dashed or not."""

    metric: str
    label: str
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves over one axis; `unit` is written beside it."""

    title: str
    unit: str
    curves: tuple[Curve, ...]

    @property
    def axis(self) -> str:
        """The axis' label."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


CHARTS = (
    Chart("PSNR", "dB", (
        Curve("psnr", "full frame", "ink"), Curve("psnr_foreground", "foreground", "blue"),
        Curve("psnr_head", "head", "violet"), Curve("psnr_mouth", "mouth", "orange"),
        Curve("psnr_neck", "neck", "grey", True),
    )),
    Chart("lip gap", "eye distances", (
        Curve("lip_gap_real", "real", "ink"), Curve("lip_gap_rendered", "rendered", "blue"),
        Curve("lip_gap_shuffled", "rendered, wrong audio", "orange", True),
    )),
    Chart("lips off by", "px at 512", (
        Curve("lmd_centred", "rendered", "blue"),
        Curve("lmd_centred_shuffled", "rendered, wrong audio", "orange", True),
    )),
    Chart("SSIM", "", (Curve("ssim", "full frame", "ink"), Curve("ssim_mouth", "mouth", "orange"))),
    Chart("LPIPS", "", (Curve("lpips", "AlexNet", "ink"), Curve("lpips_vgg", "VGG16", "blue"))),
)  # fmt: skip


def values_of(per_frame: Mapping[str, Sequence[Any]], name: str) -> np.ndarray:
    """[S] float64 of one metric of `frames.json`; NaN where a frame has none."""
    return np.array([math.nan if value is None else value for value in per_frame[name]], float)


def _known(per_frame: Mapping[str, Sequence[Any]]) -> list[tuple[Chart, list[tuple[Curve, np.ndarray]]]]:
    """The charts and curves that have a value at all."""
    found = []
    for chart in CHARTS:
        curves = [(c, values_of(per_frame, c.metric)) for c in chart.curves if c.metric in per_frame]
        curves = [(curve, values) for curve, values in curves if np.isfinite(values).any()]
        if curves:
            found.append((chart, curves))
    return found


def describe(per_frame: Mapping[str, Sequence[Any]]) -> str:
    """What the curves show, in words: their means."""
    parts = []
    for chart, curves in _known(per_frame):
        means = (f"{curve.label} {np.nanmean(values):.3g}" for curve, values in curves)
        parts.append(f"{chart.axis}: {', '.join(means)} on average")
    return "; ".join(parts)


def draw_curves(per_frame: Mapping[str, Sequence[Any]], title: str, subtitle: str) -> Figure:
    """A figure of every chart that has a value, one below the other; frames without a value leave holes.

    Args:
        per_frame: `frame` (numbers in the dataset) and one list a metric, as `frames.json` holds them.
        title: first line, in bold.
        subtitle: second line.
    """
    charts, frames = _known(per_frame), per_frame["frame"]
    inches = ABOVE + BELOW + HEIGHT * max(1, len(charts))
    figure = blank_figure(12, inches)
    grid = figure.add_gridspec(
        max(1, len(charts)), 1, left=LEFT, right=RIGHT, top=1 - ABOVE / inches, bottom=BELOW / inches,
        hspace=0.3,
    )  # fmt: skip
    # A clip of one frame has an axis, too.
    limits = (frames[0], frames[-1]) if len(frames) > 1 else (frames[0] - 0.5, frames[0] + 0.5)
    for row, (chart, curves) in enumerate(charts):
        axes = figure.add_subplot(grid[row])
        for curve, values in curves:
            label = f"{curve.label}  {np.nanmean(values):.3g}"
            dashes: Any = (0, (4, 2)) if curve.dashed else "-"
            axes.plot(frames, values, label=label, color=COLOURS[curve.colour], lw=1.3, ls=dashes)
        axes.set_ylabel(chart.axis, color=INK, fontsize=9)
        axes.set_xlim(*limits)
        axes.grid(color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9, colors=INK, labelbottom=row == len(charts) - 1)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=5, frameon=False, fontsize=9)
        if row == len(charts) - 1:
            axes.set_xlabel(f"frame of the dataset, {per_frame['fps']:g} a second", color=INK)
    figure.text(LEFT, 1 - 0.36 / inches, title, fontsize=14, fontweight="bold", color=INK)
    figure.text(LEFT, 1 - 0.62 / inches, subtitle, fontsize=9.5, color=INK)
    return figure


def svg_of(figure: Figure) -> bytes:
    """The figure as SVG, its letters as text; the same figure gives the same bytes."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "nldf"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
