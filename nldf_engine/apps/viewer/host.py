"""What the panels of an avatar's page can count on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from nldf_engine.apps.viewer.desk import Desk
from nldf_engine.apps.viewer.take import Take

if TYPE_CHECKING:
    import viser


class Host(Protocol):
    """The page that a panel belongs to.

    Attributes:
        client: the browser.
        desk: what is set, and what can be done to it.
    """

    client: viser.ClientHandle
    desk: Desk

    def guarded(self, work: Callable[..., Any]) -> Callable[[Any], None]:
        """A handler of a browser's event: what it raises is shown there. Events of our own are left out."""
        ...

    def notify(self, title: str, text: str) -> None:
        """Shows a message for a while."""
        ...

    def new_take(self, take: Take) -> None:
        """Something else is said."""
        ...

    def values_changed(self) -> None:
        """The sliders follow the state."""
        ...

    def motion_changed(self) -> None:
        """The choice of motion and the list of key frames follow the state."""
        ...

    def front(self) -> None:
        """The browser's camera looks at the face from the front again."""
        ...
