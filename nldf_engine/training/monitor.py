"""How a run is followed: TensorBoard, a picture of the curves, and validation pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.files import atomic_path
from nldf_engine.media.pictures import write_picture


class Monitor:
    """Writes what a run shows of itself into its folder.

    Args:
        folder: the run's folder; TensorBoard reads `folder/events`.
        step: where the run continues; events behind it, of a run that was killed, are dropped.
        quiet: write nothing, as processes of a run beside the first.
    """

    def __init__(self, folder: Path, step: int = 0, quiet: bool = False) -> None:
        self.folder = folder
        self._writer: Any = None
        if quiet:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "events"), purge_step=step)
        except ImportError:
            sys.stderr.write(
                "TensorBoard is not installed, so no events are written (pip install tensorboard)\n"
            )

    def scalars(self, step: int, metrics: dict[str, float]) -> None:
        """Logs metrics of a step."""
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)

    def picture(self, step: int, real: np.ndarray, rendered: np.ndarray) -> None:
        """Logs a validation frame beside the real one: uint8 [H, W, 3] each."""
        pair = np.concatenate([real, rendered], 1)
        if self._writer is not None:
            self._writer.add_image("validation/real_rendered", pair, step, dataformats="HWC")
        write_picture(self.folder / "validation.png", pair)

    def close(self) -> None:
        """Ends the event file."""
        if self._writer is not None:
            self._writer.close()


def draw_curves(path: Path, history: list[dict[str, float]], title: str) -> None:
    """A picture of loss and validation PSNR over the steps."""
    if len(history) < 2:
        return
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        sys.stderr.write("matplotlib is not installed, so no curves are drawn (pip install matplotlib)\n")
        return
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name in sorted(
        {key for row in history for key in row} - {"step", "seconds", "psnr", "learning_rate"}
    ):
        points = [(row["step"], row[name]) for row in history if row.get(name, 0) > 0]
        if points:
            left.plot(*zip(*points, strict=True), label=name)
    left.set(xlabel="step", ylabel="mean loss", yscale="log", title=title)
    left.legend(fontsize=8)
    scores = [(row["step"], row["psnr"]) for row in history if "psnr" in row]  # none while a run is closing
    right.plot(*zip(*scores, strict=True), color="tab:green", marker=".")
    right.set(xlabel="step", ylabel="dB", title="validation PSNR, full frame")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
