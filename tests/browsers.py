"""A browser without a browser: it speaks viser's protocol over a real websocket."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import viser
import zstandard
from websockets.sync.client import connect


class Browser:
    """A connected page; `elements` are what it shows, by their labels.

    Args:
        port: of the server on this machine.
        origin, host: headers of the request; those of the server's own page by default.
    """

    def __init__(self, port: int, origin: str | None = None, host: str | None = None) -> None:
        named = host or f"127.0.0.1:{port}"
        self._socket = connect(
            f"ws://{named}", sock=socket.create_connection(("127.0.0.1", port)), max_size=None,
            subprotocols=[f"viser-v{viser.__version__}"], origin=origin or f"http://{named}",
            compression=None,
        )  # fmt: skip
        self._pending: deque[dict[str, Any]] = deque()
        self.elements: dict[str, str] = {}
        self.props: dict[str, dict[str, Any]] = {}
        self.messages: list[dict[str, Any]] = []
        self.look()

    def send(self, kind: str, **fields: Any) -> None:
        self._socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def look(self, position: tuple[float, float, float] = (0.0, 0.0, -0.8), **fields: Any) -> None:
        """Sends where the camera is; the first one makes the server build the page."""
        pose = {
            "wxyz": (1.0, 0.0, 0.0, 0.0), "position": tuple(map(float, position)), "fov": 1.0,
            "near": 0.01, "far": 100.0, "image_height": 300, "image_width": 400, "look_at": (0.0, 0.0, 0.0),
            "up_direction": (0.0, -1.0, 0.0),
        }  # fmt: skip
        for name, value in fields.items():
            pose[name] = tuple(map(float, value)) if isinstance(value, tuple) else value
        self.send("ViewerCameraMessage", **pose)

    def set(self, label: str, value: Any) -> None:
        """Changes the value of the element with that label."""
        self.send("GuiUpdateMessage", uuid=self.elements[label], updates={"value": value})

    def upload(self, label: str, name: str, data: bytes, size: int | None = None, parts: int = 1) -> None:
        """Sends a file to an upload button; `size` is what it says of its size."""
        about = {"source_component_uuid": self.elements[label], "transfer_uuid": f"{name}-{time.time()}"}
        self.send(
            "FileTransferStartUpload", **about, filename=name, mime_type="", part_count=parts,
            size_bytes=len(data) if size is None else size,
        )  # fmt: skip
        step = -(-len(data) // parts)
        for part in range(parts):
            cut = data[part * step : (part + 1) * step]
            self.send("FileTransferPart", **about, part_index=part, content=cut)

    def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60.0) -> dict[str, Any]:
        """The next message that is wanted; what comes before it is kept."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self._pending:
                self._receive(left)
            while self._pending:
                if wanted(message := self._pending.popleft()):
                    return message
        raise AssertionError(f"nothing such came within {seconds:g} s")

    def quiet(self, seconds: float) -> list[dict[str, Any]]:
        """All that comes within so many seconds."""
        end, found = time.monotonic() + seconds, []
        while (left := end - time.monotonic()) > 0:
            self._receive(left)
            found += self._pending
            self._pending.clear()
        return found

    def picture(self, seconds: float = 60.0) -> bytes:
        """The next picture behind the page."""
        return self.until(lambda m: m["type"] == "BackgroundImageMessage" and m["rgb_data"], seconds)[
            "rgb_data"
        ]

    def label(self, text: str) -> str:
        """Waits for an element of that label; returns its number."""
        if text not in self.elements:
            self.until(lambda _: text in self.elements)
        return self.elements[text]

    def close(self) -> None:
        self._socket.close()

    def _receive(self, seconds: float) -> None:
        try:
            data = self._socket.recv(timeout=seconds)
        except TimeoutError:
            return
        size = int.from_bytes(data[8:16], "little")
        inner = zstandard.ZstdDecompressor().decompress(
            data[16 : 16 + size], int.from_bytes(data[:8], "little")
        )
        messages = list(msgspec.msgpack.decode(inner)["messages"])
        for message in messages:
            props = message.get("props")
            if props and "uuid" in message:
                self.props[message["uuid"]] = props
                self.elements[props.get("label") or message["type"]] = message["uuid"]
        self.messages += messages
        self._pending += messages
