"""The clip as it is set, to a video file that the browser saves."""

from __future__ import annotations

import threading
from typing import Any

from nldf_engine.apps.viewer.host import Host
from nldf_engine.apps.viewer.picture import AvatarPictures
from nldf_engine.apps.viewer.recording import NAME, Stopped, record
from nldf_engine.engine import Engine

LARGEST_WIDTH = 2048


class RecordPanel:
    """Records with an engine of its own, so that the page goes on.

    Args:
        page: it belongs to.
        busy: held while something is recorded, by whichever page.
    """

    def __init__(self, page: Host, busy: threading.Lock) -> None:
        self._page, self._busy = page, busy
        self._stopped = threading.Event()
        gui, width = page.client.gui, page.desk.engine.avatar.camera.width
        with gui.add_folder("Record", expand_by_default=False):
            self._width = gui.add_number("width", width, min=2, max=LARGEST_WIDTH, step=2)
            self._button = gui.add_button("record the whole sound", icon="player-record")
            self._cancel = gui.add_button("stop", visible=False)
            self._bar = gui.add_progress_bar(0.0, visible=False)
        self._button.on_click(page.guarded(self._record))
        self._cancel.on_click(page.guarded(lambda _: self.stop()))

    def stop(self) -> None:
        """Ends a recording that is under way."""
        self._stopped.set()

    def _record(self, _: Any) -> None:
        if not self._busy.acquire(blocking=False):
            raise ValueError("another recording is under way; wait for its end")
        try:
            self._stopped.clear()
            self._button.disabled, self._cancel.visible, self._bar.visible = True, True, True
            desk, state = self._page.desk, self._page.desk.state
            own = Engine(desk.engine.avatar, desk.engine.device)
            clip = AvatarPictures(own, desk.pictures.take).clip(state, int(self._width.value))
            data = record(clip, self._went)
            self._page.client.send_file_download(NAME, data, save_immediately=True)
            self._page.notify("Recorded", f"{NAME}: {len(clip)} frames, {len(data) / 1e6:.1f} MB")
        except Stopped:
            self._page.notify("Stopped", "Nothing was recorded.")
        finally:
            self._busy.release()
            self._button.disabled, self._cancel.visible, self._bar.visible = False, False, False

    def _went(self, share: float) -> bool:
        self._bar.value = round(100 * share, 1)
        return not self._stopped.is_set()
