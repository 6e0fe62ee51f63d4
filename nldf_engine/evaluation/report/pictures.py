"""What a person looks at: the contact sheet, the curves and the side-by-side video.

The error is the mean absolute difference of the three colours. Its colour scale is the same in every
picture (black is 0, white is `ERROR_TOP` of the full range and above), so reports compare by eye.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from nldf_engine.base.errors import MissingBackend
from nldf_engine.base.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ERROR_TOP = 0.25
INK, PAPER, GRID = "#22262b", "#ffffff", "#d9dde2"
REAL, RENDERED, WRONG = "#22262b", "#0b7285", "#e8590c"
PANEL, MOUTH_GAP = 2.15, 0.03  # inches
SMALLEST_PANEL = 256
STRIP = 32


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


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=140, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        # No creation date or version inside: the same report is the same file.
        figure.savefig(temporary, format="png", metadata={"Software": None})


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
    figure = _figure(page_width, page_height)

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
    _save(figure, path)


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
    figure = _figure(12, 6.6 if lips else 4.0)
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
    _save(figure, path)


class Comparison:
    """The side-by-side video: real, rendered and error, with the clip's own sound.

    Frames that are not scored are shown too, so that picture and sound stay together.

    Args:
        path: the mp4 to write; it appears when the block ends without an error.
        width: a frame's width in pixels; frames under 256 are enlarged by a whole factor.
        height: a frame's height in pixels.
        fps: frames a second.
        audio: (samples, rate), or None.
    """

    def __init__(
        self, path: Path, width: int, height: int, fps: float, audio: tuple[np.ndarray, int] | None
    ) -> None:
        import cv2

        from nldf_engine.avatar.provenance.origin import comparison_tags
        from nldf_engine.media.video import VideoWriter

        factor = -(-SMALLEST_PANEL // max(width, height))
        self._size = (width * factor, height * factor)
        colours = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_MAGMA)
        self._colours = np.ascontiguousarray(colours[:, 0, ::-1])
        width, height = 3 * self._size[0], self._size[1] + STRIP
        self._writer = VideoWriter(path, width, height, fps=fps, audio=audio, metadata=comparison_tags())

    def __enter__(self) -> Comparison:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, value, trace)

    def write(self, real: np.ndarray, rendered: np.ndarray, note: str) -> None:
        """Adds a frame of real and rendered [H, W, 3] uint8; `note` stands above the error."""
        import cv2

        width, height = self._size
        error = self._colours[(error_share(rendered, real) * 255).astype(np.uint8)]
        page = np.full((height + STRIP, 3 * width, 3), 18, np.uint8)
        captions = ("real", "rendered", f"error  {note}")
        for index, (panel, caption) in enumerate(zip((real, rendered, error), captions, strict=True)):
            large = cv2.resize(panel, self._size, interpolation=cv2.INTER_CUBIC)
            page[STRIP:, index * width : (index + 1) * width] = large
            place = (index * width + 10, STRIP - 10)
            cv2.putText(page, caption, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
        self._writer.write(page)
