"""How the head moves, what is compared, and what is behind."""

from __future__ import annotations

from typing import Any

from nldf_engine.apps.viewer.host import Host
from nldf_engine.apps.viewer.state import PATH
from nldf_engine.apps.viewer.upload import LARGEST_BYTES, PICTURES, read_uploaded_picture
from nldf_engine.rendering.backgrounds import TRANSPARENT

OWN, COLOUR, PICTURE = "its own", "a colour", "a picture"
BACKGROUNDS = (OWN, COLOUR, PICTURE, TRANSPARENT)


class ScenePanel:
    """Choices that are no edit.

    Args:
        page: it belongs to.
    """

    def __init__(self, page: Host) -> None:
        self._page, self._picture = page, None  # type: Host, Any
        gui, pictures = page.client.gui, page.desk.pictures
        with gui.add_folder("Scene"):
            self._motion = gui.add_dropdown("motion", pictures.motions, initial_value=page.desk.state.motion)
            self._shown = gui.add_dropdown("show", pictures.shown, initial_value=page.desk.state.shown)
            self._behind = gui.add_dropdown("background", BACKGROUNDS, initial_value=OWN)
            self._colour = gui.add_rgb("colour", (48, 96, 160), visible=False)
            # An upload button can't be hidden by itself.
            self._own_picture = gui.add_folder("picture", visible=False)
            with self._own_picture:
                upload = gui.add_upload_button("choose a file", icon="upload", mime_type="image/*",
                    hint=f"{PICTURES}; up to {LARGEST_BYTES >> 20} MB")  # fmt: skip
        self._motion.on_update(page.guarded(self._moved))
        self._shown.on_update(page.guarded(lambda event: page.desk.change(shown=event.target.value)))
        self._behind.on_update(page.guarded(self._chosen))
        self._colour.on_update(page.guarded(self._chosen))
        upload.on_upload(page.guarded(self._uploaded))

    def renew(self) -> None:
        """Another take, or another motion: its choices."""
        pictures, state = self._page.desk.pictures, self._page.desk.state
        for handle, options, value in (
            (self._motion, pictures.motions, state.motion),
            (self._shown, pictures.shown, state.shown),
        ):
            if tuple(handle.options) != options:
                handle.options = options
            if handle.value != value:
                handle.value = value

    def _moved(self, event: Any) -> None:
        desk = self._page.desk
        before = desk.state.motion
        try:
            if event.target.value == PATH:
                desk.state.path.poses(1)
            desk.change(motion=event.target.value)
        except ValueError:
            self._motion.value = before
            raise

    def _chosen(self, event: Any) -> None:
        word = self._behind.value
        self._colour.visible, self._own_picture.visible = word == COLOUR, word == PICTURE
        self._page.desk.change(
            background={
                OWN: None,
                TRANSPARENT: TRANSPARENT,
                COLOUR: "#{:02x}{:02x}{:02x}".format(*self._colour.value),
                PICTURE: self._picture,
            }[word]
        )

    def _uploaded(self, event: Any) -> None:
        upload = event.target.value
        self._picture = read_uploaded_picture(upload.name, upload.content)
        self._chosen(event)
