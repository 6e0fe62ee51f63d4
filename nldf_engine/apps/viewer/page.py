"""An avatar's page in one browser: its panels, and what keeps them and the picture in step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nldf_engine.apps.viewer.browser import Browser
from nldf_engine.apps.viewer.compare import at_size, letterboxed, opaque
from nldf_engine.apps.viewer.control_panel import ControlPanel
from nldf_engine.apps.viewer.controls import Choice, Control, controls_of
from nldf_engine.apps.viewer.desk import Desk
from nldf_engine.apps.viewer.path_panel import PathPanel
from nldf_engine.apps.viewer.picture import Picture, ranges_beyond
from nldf_engine.apps.viewer.record_panel import RecordPanel
from nldf_engine.apps.viewer.scene_panel import ScenePanel
from nldf_engine.apps.viewer.time_panel import TimePanel
from nldf_engine.apps.viewer.track_panel import TrackPanel

if TYPE_CHECKING:
    import viser

    from nldf_engine.apps.viewer.take import Take
    from nldf_engine.engine import Engine

PAPER = (20, 22, 26)
SHOWN_HEIGHT = 512  # pixels at least
DISTANCE = 0.8  # metres from the head at which a browser's camera begins
MOVING_QUALITY, FULL_QUALITY = 80, 95
STATUS_EVERY = 0.3  # seconds


class AvatarPage(Browser):
    """One browser that looks at an avatar.

    Args:
        client: the browser.
        engine: of the avatar; for this page alone.
        take: what is said first.
        controls: that the avatar answers to.
        busy: held by the one page that records.
    """

    def __init__(
        self, client: viser.ClientHandle, engine: Engine, take: Take | None,
        controls: Sequence[Control | Choice], busy: threading.Lock,
    ) -> None:  # fmt: skip
        super().__init__(client)
        self._last: tuple[Picture, bool] | None = None
        self._aspect, self._told = 1.0, 0.0
        self._drawn: list[float] = []
        self.desk = Desk(engine, take, controls, self._show, self.complain)
        gui = client.gui
        self._status = gui.add_markdown("")
        self._time = TimePanel(self)
        self._scene = ScenePanel(self)
        self._controls = ControlPanel(self)
        self._path = PathPanel(self)
        self._tracks = TrackPanel(self)
        self._record = RecordPanel(self, busy)
        client.camera.on_update(self._camera_moved)
        self._fit()
        self.desk.start()

    def close(self) -> None:
        """The browser has gone."""
        self._record.stop()
        self.desk.close()

    # What panels call.

    def new_take(self, take: Take) -> None:
        """Something else is said."""
        self.desk.say(take)
        for panel in (self._time, self._scene, self._tracks, self._path):
            panel.renew()

    def values_changed(self) -> None:
        """The sliders follow the state."""
        self._controls.renew()

    def motion_changed(self) -> None:
        """The choice of motion and the list of key frames follow the state."""
        self._scene.renew()
        self._path.renew()

    # The picture and the camera.

    def _show(self, picture: Picture, full: bool) -> None:
        self._last = picture, full
        pixels = opaque(picture.pixels)
        # What JPEG and the browser make of a small picture is coarser than what is in it.
        larger = max(1.0, SHOWN_HEIGHT / pixels.shape[0])
        pixels = at_size(pixels, round(larger * pixels.shape[1]), round(larger * pixels.shape[0]))
        shown = letterboxed(pixels, self._aspect, PAPER)
        quality = FULL_QUALITY if full else MOVING_QUALITY
        self.client.scene.set_background_image(shown, format="jpeg", jpeg_quality=quality)
        self._time.follow(picture.frame)
        self._tracks.follow(picture.frame)
        self._tell(picture, full)

    def _tell(self, picture: Picture, full: bool) -> None:
        now = time.monotonic()
        self._drawn = [moment for moment in self._drawn if now - moment < 1.5] + [now]
        if now - self._told < STATUS_EVERY and not full:
            return
        self._told = now
        height, width = picture.pixels.shape[:2]
        parts = [f"{width} x {height} pixels"]
        if not full and len(self._drawn) > 2:
            rate = (len(self._drawn) - 1) / (self._drawn[-1] - self._drawn[0])
            parts.append(f"{rate:.0f} frames/s")
        if picture.psnr is not None:
            parts.append(f"PSNR {picture.psnr:.2f} dB")
        beyond = ranges_beyond(self.desk.pictures, self.desk.state) if full else ""
        if beyond:
            parts.append(f"beyond the training video: {beyond}")
        self._status.content = " · ".join(parts)

    def _camera_moved(self, camera: Any) -> None:
        if camera.aspect != self._aspect:
            self._fit()
            if self._last is not None:
                self._show(*self._last)
        if self.desk.drag(np.asarray(camera.wxyz), np.asarray(camera.position)):
            self._controls.renew()

    def _fit(self) -> None:
        camera = self.client.camera
        self._aspect = min(8.0, max(0.125, camera.aspect if camera.image_height else 1.0))

    def front(self) -> None:
        """The browser's camera looks at the face from the front again."""
        self.desk.turning.rest()
        with self.client.atomic():
            self.client.camera.position = (0.0, 0.0, -DISTANCE)
            self.client.camera.look_at = (0.0, 0.0, 0.0)
            self.client.camera.up_direction = (0.0, -1.0, 0.0)


def open_avatar_page(
    server: viser.ViserServer, make_engine: Callable[[], Engine], take: Take | None
) -> Callable[[viser.ClientHandle], AvatarPage]:
    """Readies a server for avatars; returns what makes a browser's page.

    Args:
        server: without a page.
        make_engine: an engine on the avatar, for one browser.
        take: what is said first; silence where None.
    """
    server.scene.set_up_direction((0.0, -1.0, 0.0))
    server.initial_camera.position = (0.0, 0.0, -DISTANCE)
    server.initial_camera.look_at = (0.0, 0.0, 0.0)
    busy, controls = threading.Lock(), controls_of(make_engine())
    return lambda client: AvatarPage(client, make_engine(), take, controls, busy)
