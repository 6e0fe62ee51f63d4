"""Key frames of a camera path."""

from __future__ import annotations

from typing import Any

from nldf_engine.apps.viewer.host import Host

FILE = "path.json"


class PathPanel:
    """Set, drop, preview and save key frames.

    Args:
        page: it belongs to.
    """

    def __init__(self, page: Host) -> None:
        self._page = page
        gui, desk = page.client.gui, page.desk

        def then_renew(work: Any) -> Any:
            def both(_: Any) -> None:
                work()
                page.values_changed()
                page.motion_changed()

            return page.guarded(both)

        with gui.add_folder("Camera path", expand_by_default=False):
            self._list = gui.add_markdown("")
            gui.add_button("key frame here", icon="plus").on_click(then_renew(desk.set_key))
            gui.add_button("drop the nearest", icon="minus").on_click(then_renew(desk.drop_key))
            gui.add_button("preview", icon="player-play").on_click(then_renew(desk.preview_path))
            gui.add_button("save for nldf render --poses", icon="download").on_click(page.guarded(self._save))
        self.renew()

    def renew(self) -> None:
        """The list of key frames."""
        self._list.content = self._page.desk.state.path.describe()

    def _save(self, _: Any) -> None:
        desk = self._page.desk
        text = desk.state.path.to_json(len(desk.pictures.take))
        self._page.client.send_file_download(FILE, text.encode("ascii"), save_immediately=True)
