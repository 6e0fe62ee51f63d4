"""What a person looks at: held-out faces row by row, and each table's metrics and curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.reproduce.cells import Cell
from bench.reproduce.lab import Lab
from bench.reproduce.results import NAMES, least_difference, mean
from bench.reproduce.table import Table
from nldf_engine import Engine
from nldf_engine.base.files import atomic_path
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.geometry.face_mesh import INNER_LIP

SIDE = 176  # of one face, pixels
LABEL, HEADING = 170, 22
SPREAD = 4
MARGIN = 0.12
INK = (40, 34, 30)
DOT, PAPER = "#0b7285", "#e8590c"


def moments(data: Dataset) -> dict[int, str]:
    """Held-out frames worth looking at, and why: some spread evenly, closed eyes, open and closed mouth."""
    held = data.indices("heldout")
    points = data.landmarks[held][:, list(INNER_LIP)]
    gap = np.ptp(points[..., 1], axis=1)
    chosen = {int(held[k]): "" for k in np.linspace(0, len(held) - 1, SPREAD).astype(int)}
    chosen[int(held[np.argmin(data.eye_openness[held])])] = "eyes most closed"
    chosen[int(held[np.argmax(gap)])] = "mouth most open"
    chosen[int(held[np.argmin(gap)])] = "mouth most closed"
    return dict(sorted(chosen.items()))


def sheet(path: Path, lab: Lab, table: Table) -> None:
    """Faces of held-out frames: the real ones, and below them those of every row (seed 0); no file where no
    row has an avatar."""
    import cv2

    drawn = [row for row in table.rows if isinstance(row.cell, Cell) and lab.record(row.cell) is not None]
    if not drawn:
        return
    shown = moments(lab.data)
    width = lab.scale.student.size
    real = [next(iter(lab.data.read_frames(n, n + 1, width))) for n in shown]
    rows = {"real": real}
    for row in drawn:
        assert isinstance(row.cell, Cell)
        engine = Engine.load(lab.avatar(row.cell, row.step), lab.device)
        rows[row.label] = [_render(engine, lab.data, n, width) for n in shown]
    page = np.full((HEADING + SIDE * len(rows), LABEL + SIDE * len(shown), 3), 255, np.uint8)

    def write(text: str, x: int, y: int) -> None:
        cv2.putText(page, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)

    for column, (number, why) in enumerate(shown.items()):
        write(f"{number} {why}", LABEL + column * SIDE + 4, HEADING - 7)
    for index, (label, frames) in enumerate(rows.items()):
        top = HEADING + index * SIDE
        for line, text in enumerate(label.replace(" (", ", (").split(", ")):
            write(text, 6, top + SIDE // 2 + 18 * line)
        for column, (number, frame) in enumerate(zip(shown, frames, strict=True)):
            x0, y0, x1, y1 = _face(lab.data, number, width)
            face = cv2.resize(frame[y0:y1, x0:x1], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            left = LABEL + column * SIDE
            page[top : top + SIDE, left : left + SIDE] = face
    ok, png = cv2.imencode(".png", cv2.cvtColor(page, cv2.COLOR_RGB2BGR))
    assert ok
    with atomic_path(path) as temporary:
        temporary.write_bytes(png.tobytes())


def _render(engine: Engine, data: Dataset, number: int, width: int) -> np.ndarray:
    at = slice(number, number + 1)
    torso = data.torso_motion()
    clip = engine.render(
        data.audio_features(engine.avatar.frontend)[at], data.poses[at], eyes=data.eye_openness[at],
        size=width, torso=None if torso is None else torso[at],
    )  # fmt: skip
    return clip.frames[0]


def _face(data: Dataset, number: int, width: int) -> tuple[int, int, int, int]:
    """A square about a frame's face, in pixels of frames of that width: x0, y0, x1, y1."""
    points = data.landmarks[number] * (width / data.camera.width)
    low, high = points.min(0), points.max(0)
    half = (0.5 + MARGIN) * float((high - low).max())
    height = round(width * data.camera.height / data.camera.width)
    side = min(round(2 * half), width, height)
    x, y = ((low + high) / 2 - side / 2).round().astype(int)
    x, y = int(np.clip(x, 0, width - side)), int(np.clip(y, 0, height - side))
    return x, y, x + side, y + side


def plot(path: Path, found: Mapping[str, Any]) -> None:
    """A row a table: our metrics with every seed as a dot, the paper's PSNR, and the validation curves."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tables = {
        name: table for name, table in found["tables"].items() if any(r["measured"] for r in table["rows"])
    }
    figure = Figure(figsize=(15, 3.1 * len(tables)), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, table) in zip(
        figure.subplots(len(tables), 5, squeeze=False), tables.items(), strict=True
    ):
        rows = [row for row in table["rows"] if row["measured"]]
        for axis, column in zip(axes, _plotted(rows, table["metrics"]), strict=False):
            _dots(axis, found, table, rows, column, axis is axes[0])
        published = [row for row in rows if "psnr" in row["paper"]]
        axes[3].plot([row["paper"]["psnr"] for row in published], range(len(published)), "D", color=PAPER)
        axes[3].set(
            title="the paper's PSNR" if published else "the paper has no numbers",
            yticks=range(len(published)),
        )
        axes[3].set_yticklabels([])
        axes[3].invert_yaxis()
        for row in rows:
            history = found["cells"][row["cells"][0]]["history"]
            if row["step"] is None:
                label = row["label"].partition(" (")[0]
                validated = [(h["step"], h["psnr"]) for h in history if "psnr" in h]
                if validated:
                    axes[4].plot(*zip(*validated, strict=True), label=label)
        axes[4].set(title="validation PSNR, seed 0", xlabel="step")
        if axes[4].lines:
            axes[4].legend(fontsize=7)
        axes[0].set_ylabel(name)
        for axis in axes:
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _plotted(rows: list, metrics: list[str]) -> list[str]:
    """The three metrics of a table that are plotted."""
    usual = ["psnr", "psnr_mouth", "ssim"]
    there = [name for name in usual if any(m.get(name) is not None for row in rows for m in row["measured"])]
    return usual if len(there) == len(usual) else metrics[:3]


def _dots(
    axis: Any, found: Mapping[str, Any], table: Mapping[str, Any], rows: list, column: str, first: bool
) -> None:
    """A metric of every row: its mean, its seeds, and about the reference row what noise explains."""
    reference = next((row for row in rows if row["label"] == table["reference"]), rows[0])
    for place, row in enumerate(rows):
        values = [m[column] for m in row["measured"] if m.get(column) is not None]
        axis.plot(values, [place] * len(values), "o", color=DOT, alpha=0.45, ms=5)
        if values:
            axis.plot(mean(row, column), place, "|", color=DOT, ms=16, mew=2)
        least, middle = least_difference(found, row, reference, column), mean(reference, column)
        if least is not None and middle is not None and row is not reference:
            axis.hlines(place, middle - least, middle + least, color="#adb5bd", lw=7, alpha=0.5, zorder=0)
    axis.set(title=f"ours: {NAMES[column][0]}", yticks=range(len(rows)))
    labels = [row["label"].replace(" (", "\n(") for row in rows]
    axis.set_yticklabels(labels if first else [], fontsize=8)
    axis.invert_yaxis()
