"""One browser that looks at a page: its events, and what it is shown when something goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nldf_engine.base.errors import NldfError

if TYPE_CHECKING:
    import viser


class Browser:
    """What the pages of avatars and datasets have in common.

    Args:
        client: the browser.
    """

    def __init__(self, client: viser.ClientHandle) -> None:
        self.client = client

    def guarded(self, work: Callable[..., Any]) -> Callable[[Any], None]:
        """A handler of a browser's event: what it raises is shown there. Events of our own are left out."""

        def handler(event: Any) -> None:
            if event.client_id is None:
                return
            try:
                work(event)
            except Exception as error:  # a browser's input is no reason to end the page
                self.complain(error)

        return handler

    def complain(self, error: Exception) -> None:
        """Shows what went wrong, in a line."""
        known = isinstance(error, NldfError | ValueError | IndexError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        self.client.add_notification("This can't be done", text, color="red", auto_close_seconds=12)

    def notify(self, title: str, text: str) -> None:
        """Shows a message for a while."""
        self.client.add_notification(title, text, auto_close_seconds=6)
