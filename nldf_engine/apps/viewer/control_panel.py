"""A slider or a choice for each control that the avatar answers to."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from nldf_engine.apps.viewer.controls import Choice, Control
from nldf_engine.apps.viewer.host import Host

CLOSED = ("Codes",)  # folders that begin closed


class ControlPanel:
    """The folders of controls.

    Args:
        page: it belongs to.
    """

    def __init__(self, page: Host) -> None:
        self._page = page
        self._handles: dict[str, tuple[Control | Choice, Any]] = {}
        gui = page.client.gui
        for folder, controls in groupby(page.desk.pictures.controls, key=lambda control: control.folder):
            with gui.add_folder(folder, expand_by_default=folder not in CLOSED):
                for control in controls:
                    self._add(control)
        gui.add_button("all as usual", icon="arrow-back-up").on_click(page.guarded(self._reset))

    def renew(self) -> None:
        """The sliders follow the state."""
        values = self._page.desk.state.values
        for name, (control, handle) in self._handles.items():
            value = values.get(name, control.usual)
            value = control.rounded(value) if isinstance(control, Control) else value
            if handle.value != value:
                handle.value = value

    def _add(self, control: Control | Choice) -> None:
        gui = self._page.client.gui
        hint = control.hint or None
        handle: Any
        if isinstance(control, Choice):
            handle = gui.add_dropdown(
                control.label, tuple(control.options), initial_value=control.usual, hint=hint
            )
        else:
            marks = None
            if control.seen is not None:
                low, high = (control.clamp(end) for end in control.seen)
                marks, hint = (low, high), "the marks are the ends of what the training video shows"
            handle = gui.add_slider(
                control.label, control.low, control.high, control.step, control.usual, marks=marks, hint=hint
            )
        handle.on_update(
            self._page.guarded(lambda event, name=control.name: self._page.desk.set(name, event.target.value))
        )
        self._handles[control.name] = control, handle

    def _reset(self, _: Any) -> None:
        self._page.desk.reset()
        self.renew()
        self._page.front()
