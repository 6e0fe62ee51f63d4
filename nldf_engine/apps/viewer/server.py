"""The web server of the viewer: viser, kept to this machine and to its own page.

What viser leaves open is closed here: it shares a server with the internet when a browser asks for it, takes
uploads of any size, and answers pages of other sites that a person may have open.
"""

from __future__ import annotations

import contextlib
import io
import socket
from typing import TYPE_CHECKING, Any

from nldf_engine.apps.origins import is_known_host, is_own_page
from nldf_engine.apps.viewer.upload import LARGEST_BYTES
from nldf_engine.base.errors import MissingBackend, NldfError

if TYPE_CHECKING:
    import viser

MOST_BROWSERS = 8


def check_address(host: str, port: int) -> None:
    """Checks that a server can listen there.

    Raises:
        NldfError: it can't; the message says why.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NldfError(
            f"the viewer can't listen at {host}:{port} ({reason}). To fix it: another --port, or a --host "
            "that is an address of this machine (127.0.0.1 for this machine alone, 0.0.0.0 for all networks)"
        ) from error


def open_server(host: str, port: int, label: str) -> viser.ViserServer:
    """A running server without any page yet.

    Args:
        host: address to listen at.
        port: to listen at; 0 for any free one.
        label: shown above the controls.

    Raises:
        MissingBackend: viser is not installed.
        NldfError: nothing can listen there.
    """
    check_address(host, port)
    try:
        import viser
    except ImportError as error:
        raise MissingBackend(
            "viser, which shows the viewer, is not installed", "pip install 'nldf_engine[view]'"
        ) from error

    class Server(viser.ViserServer):
        """A server that no browser can open to the internet."""

        def request_share_url(self, verbose: bool = True) -> str | None:
            """Shares nothing."""
            return None

    with contextlib.redirect_stdout(io.StringIO()):  # its own line says less than ours
        server = Server(host=host, port=port, label=label, verbose=False)
    server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
    server.gui.main_panel.dock_right()
    server.scene.world_axes.visible = False
    return server


def admits(client: viser.ClientHandle, server: viser.ViserServer) -> bool:
    """Whether a browser that connected is shown the page: it came by this server's own, and there is room."""
    request = _request(server, client.client_id)
    origins, hosts = request.headers.get_all("Origin"), request.headers.get_all("Host")
    origin, host = ("".join(values) if values else None for values in (origins, hosts))
    fits = is_own_page(origin, host) and is_known_host(host, server.get_host())
    return fits and len(server.get_clients()) <= MOST_BROWSERS


def _request(server: viser.ViserServer, client_id: int) -> Any:
    """The request that opened a browser's websocket; viser has no public name for it."""
    return server._websock_server._live_connections[client_id].request


def limit_uploads(client: viser.ClientHandle, largest: int = LARGEST_BYTES) -> None:
    """Drops uploads of a browser that are, or become, larger than so many bytes, before they fill memory."""
    from viser import _messages

    uploads: dict[str, Any] = client.gui._current_file_upload_states
    connection = client._websock_connection

    def check(_: int, message: Any) -> None:
        upload = uploads.get(message.transfer_uuid)
        together = sum(each["transferred_bytes"] for each in list(uploads.values()))
        if upload is not None and max(upload["total_bytes"], together) > largest:
            uploads.pop(message.transfer_uuid, None)
            client.add_notification("Too large", f"Files of up to {largest >> 20} MB are taken.", color="red")

    connection.register_handler(_messages.FileTransferStartUpload, check)
    connection.register_handler(_messages.FileTransferPart, check)
