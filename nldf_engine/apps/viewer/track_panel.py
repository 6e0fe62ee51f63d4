"""Motion codes over time, and changes of them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from nldf_engine.apps.viewer.codes import LARGEST, CodeEdit, changed
from nldf_engine.apps.viewer.host import Host
from nldf_engine.apps.viewer.take import loudness
from nldf_engine.base.clock import FPS

COLOURS = ("#4cc9f0", "#f9c74f", "#90be6d", "#f94144", "#b388eb", "#f3722c", "#43aa8b", "#adb5bd")
HEIGHT = 180
MOST_POINTS = 1500
CURSOR_EVERY = 0.25  # seconds


class TrackPanel:
    """A plot of the loudness and the motion codes with the frame that is shown; stretches that are changed.

    Args:
        page: it belongs to.
    """

    def __init__(self, page: Host) -> None:
        self._page, self._moved = page, 0.0
        self._plot: Any = None
        gui, codes = page.client.gui, page.desk.engine.motion_codes
        self._folder = gui.add_folder(
            "Codes over time" if codes else "Loudness over time", expand_by_default=False
        )
        with self._folder:
            if codes:
                self._code = gui.add_dropdown("code", tuple(str(k) for k in range(codes)), initial_value="0")
                self._code.on_update(page.guarded(lambda _: self._draw()))
                self._stretch = gui.add_multi_slider("stretch", 0, 1, 1, (0, 1))
                self._amount = gui.add_slider("add", -LARGEST, LARGEST, 0.1, 1.0)
                gui.add_button("change the stretch", icon="plus").on_click(page.guarded(self._add))
                gui.add_button("undo all changes").on_click(page.guarded(self._clear))
        self.renew()

    def renew(self) -> None:
        """Another take: its codes and its length."""
        desk = self._page.desk
        if desk.engine.motion_codes:
            self._stretch.max = max(1, len(desk.pictures.take) - 1)
            self._stretch.value = (0, min(self._stretch.max, round(FPS)))
        self._draw()

    def follow(self, frame: int) -> None:
        """The line of the frame that is shown goes along."""
        now = time.monotonic()
        if self._plot is None or now - self._moved < CURSOR_EVERY:
            return
        self._moved = now
        self._plot.data = (*self._curves, self._line(frame))

    def _draw(self) -> None:
        pictures, state = self._page.desk.pictures, self._page.desk.state
        loud = loudness(pictures.take)
        codes = pictures.codes
        seconds = np.arange(len(loud)) / FPS
        step = -(-len(seconds) // MOST_POINTS)
        curves = [seconds, 4 * loud / max(1e-6, loud.max())]
        labels = ["time (s)", "loudness"]
        if codes is not None:
            k = int(self._code.value)
            curves.append(changed(codes, state.codes)[:, k].double().cpu().numpy())
            labels.append(f"code {k}")
        self._curves = tuple(curve[::step].astype(np.float64) for curve in curves)
        series = [
            {"label": label, "stroke": COLOURS[n % len(COLOURS)], "width": 1}
            for n, label in enumerate(labels)
        ]
        series.append({"label": "now", "stroke": "#ffffff", "width": 1})
        data = (*self._curves, self._line(state.frame))
        if self._plot is not None:
            self._plot.remove()
        scales = {"x": {"time": False}, "y": {"range": (-LARGEST, LARGEST)}}
        with self._folder:
            self._plot = self._page.client.gui.add_uplot(
                data, tuple(series), scales=scales, height=HEIGHT, order=0.0
            )

    def _line(self, frame: int) -> np.ndarray:
        seconds = self._curves[0]
        line = np.full(len(seconds), -2 * LARGEST)  # below what is seen
        line[int(np.abs(seconds - frame / FPS).argmin())] = LARGEST
        return line

    def _add(self, _: Any) -> None:
        first, last = self._stretch.value
        self._page.desk.add_codes(CodeEdit(int(self._code.value), int(first), int(last), self._amount.value))
        self._draw()

    def _clear(self, _: Any) -> None:
        self._page.desk.change(codes=())
        self._draw()
