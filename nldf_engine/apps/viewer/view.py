"""The viewer from its beginning to its end: loads, serves a page to each browser, and waits."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nldf_engine.apps.origins import is_local
from nldf_engine.apps.viewer.server import (
    MOST_BROWSERS,
    admits,
    check_address,
    limit_uploads,
    open_server,
)
from nldf_engine.base.memory import keep_loaded

if TYPE_CHECKING:
    import viser


def view_avatar(
    path: Path, audio: Path | None, data: Path | None, host: str, port: int, device: str = "auto"
) -> int:
    """Shows an avatar until the process is stopped.

    Args:
        path: its folder.
        audio: what it says.
        data: the dataset that it is compared with.
        host, port: where to listen.
        device: where to render.

    Raises:
        FileProblem: a folder or file that can't be used.
        MissingBackend: viser is not installed.
        NldfError: nothing can listen there.
    """
    from nldf_engine.apps.viewer.page import open_avatar_page
    from nldf_engine.apps.viewer.take import dataset_take, sound_take
    from nldf_engine.datasets.open import open_dataset
    from nldf_engine.engine import Engine

    check_address(host, port)
    engine = Engine.load(path, device=device)
    take = None
    if audio is not None:
        take = sound_take(engine, audio, audio.name)
    elif data is not None:
        take = dataset_take(engine, open_dataset(data))
    # The page says what leads beyond the training video; the console need not.
    warnings.filterwarnings("ignore", category=UserWarning, module="nldf_engine")
    server = open_server(host, port, engine.avatar.name)
    page = open_avatar_page(server, lambda: Engine(engine.avatar, engine.device), take)
    return serve(server, page, "the avatar, and what is uploaded to it")


def view_dataset(path: Path, host: str, port: int) -> int:
    """Shows a dataset until the process is stopped.

    Args:
        path: its folder, of any layout.
        host, port: where to listen.

    Raises:
        FileProblem: it can't be used.
        MissingBackend: viser is not installed.
        NldfError: nothing can listen there.
    """
    from nldf_engine.apps.viewer.dataset_page import open_dataset_page
    from nldf_engine.datasets.open import open_dataset

    check_address(host, port)
    dataset = open_dataset(path)
    server = open_server(host, port, path.resolve().name)
    return serve(server, open_dataset_page(server, dataset), "the frames and the sound of this dataset")


def serve(
    server: viser.ViserServer, make_page: Callable[[viser.ClientHandle], Any], exposed: str,
    until: threading.Event | None = None,
) -> int:  # fmt: skip
    """Gives every browser a page, says where, and waits.

    Args:
        server: without pages.
        make_page: makes a browser's page; it has a method `close`.
        exposed: what whoever reaches the address gets to see.
        until: ends it; by default only a signal does.
    """
    # Browsers go while something is on its way to them.
    warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")
    keep_loaded()
    connect(server, make_page)
    address = f"http://{server.get_host()}:{server.get_port()}"
    print(f"{address} shows {exposed}; Ctrl-C ends it", flush=True)
    if not is_local(server.get_host()):
        print(
            "anybody who reaches this address can look, move the sliders, upload sounds and record: there is "
            "no password, and nothing is encrypted",
            flush=True,
        )
    try:
        (until or threading.Event()).wait()
    finally:
        with contextlib.redirect_stdout(io.StringIO()):  # what it says of its end is no result
            server.stop()
    return 0


def connect(server: viser.ViserServer, make_page: Callable[[viser.ClientHandle], Any]) -> dict[int, Any]:
    """Gives every browser that is let in a page of its own; returns them by the browsers' numbers."""
    pages: dict[int, Any] = {}

    @server.on_client_connect
    def _(client: viser.ClientHandle) -> None:
        if not admits(client, server):
            client.gui.add_markdown(
                f"This viewer answers to its own address alone, and to {MOST_BROWSERS} browsers at once. "
                "Close one, and load this page again."
            )
            return
        limit_uploads(client)
        pages[client.client_id] = make_page(client)
        if client.client_id not in server.get_clients():  # it went while its page was made
            leave(client)

    @server.on_client_disconnect
    def leave(client: viser.ClientHandle) -> None:
        page = pages.pop(client.client_id, None)
        if page is not None:
            page.close()

    return pages
