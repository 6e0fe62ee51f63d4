"""The time line and the sound."""

from __future__ import annotations

import time
from typing import Any

from nldf_engine.apps.viewer.host import Host
from nldf_engine.apps.viewer.playback import Playback
from nldf_engine.apps.viewer.take import silent_take, sound_take
from nldf_engine.apps.viewer.upload import LARGEST_BYTES, SOUNDS, plain_name, read_uploaded_sound
from nldf_engine.base.clock import FPS

FOLLOWED_EVERY = 0.2  # seconds between two steps of the slider while it plays


class TimePanel:
    """Play, pause, scrub; another sound.

    Args:
        page: it belongs to.
    """

    def __init__(self, page: Host) -> None:
        self._page, self._followed = page, 0.0
        gui, take = page.client.gui, page.desk.pictures.take
        self._playback = Playback(take.sound)
        with gui.add_folder("Time"):
            self._name = gui.add_markdown("")
            self._slider = gui.add_slider("frame", 0, 1, 1, 0, hint=f"{FPS:g} frames a second")
            self._slider.on_update(page.guarded(self._scrub))
            self._buttons = gui.add_button_group("", ("play", "pause", "back"))
            self._buttons.on_click(page.guarded(self._press))
            upload = gui.add_upload_button("another sound", icon="upload", mime_type="audio/*,video/*",
                hint=f"{SOUNDS}; up to {LARGEST_BYTES >> 20} MB")  # fmt: skip
            upload.on_upload(page.guarded(self._uploaded))
            gui.add_button("silence").on_click(
                page.guarded(lambda _: page.new_take(silent_take(page.desk.engine)))
            )
            self._sound = gui.add_html("")
        self.renew()

    def renew(self) -> None:
        """Another take: its name and length."""
        page = self._page
        take = page.desk.pictures.take
        self._playback = Playback(take.sound)
        self._sound.content = ""
        self._name.content = f"**{take.name}**, {take.seconds:.1f} s"
        self._slider.max, self._slider.value = max(1, len(take) - 1), 0

    def follow(self, frame: int) -> None:
        """The slider goes along with the frame that is shown."""
        now, playing = time.monotonic(), self._page.desk.playhead.playing
        if playing and now - self._followed < FOLLOWED_EVERY:
            return
        self._followed = now
        if self._slider.value != frame:
            self._slider.value = frame
        if not playing:
            self._sound.content = ""

    def _press(self, event: Any) -> None:
        desk = self._page.desk
        if event.target.value == "play":
            desk.play()
            self._sound.content = self._playback.html(desk.playhead.frame / FPS)
            return
        self._sound.content = ""
        desk.pause()
        if event.target.value == "back":
            desk.seek(0)

    def _scrub(self, event: Any) -> None:
        desk = self._page.desk
        desk.seek(int(event.target.value))
        if desk.playhead.playing:
            self._sound.content = self._playback.html(desk.playhead.frame / FPS)

    def _uploaded(self, event: Any) -> None:
        page, upload = self._page, event.target.value
        name = plain_name(upload.name)
        page.notify("Reading", name)
        sound = read_uploaded_sound(upload.name, upload.content)
        page.new_take(sound_take(page.desk.engine, sound, name))
