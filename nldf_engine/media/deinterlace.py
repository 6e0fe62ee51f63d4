"""Frames of two fields, taken at two moments, woven into one picture of the first moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Deinterlacer:
    """Passes frames on, interlaced ones through FFmpeg's bwdif; for progressive video nothing runs.

    Args:
        stream: that the frames are of.

    Attributes:
        used: whether a frame was flagged.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self.used = stream, False
        self._graph: Any = None

    def push(self, frame: Any) -> Iterator[Any]:
        """Yields what is ready: the frame itself, or with a delay of one frame where fields are woven."""
        if self._graph is None and not frame.interlaced_frame:
            yield frame
            return
        self._graph, self.used = self._graph or self._made(), True
        self._graph.vpush(frame)
        yield from self._ready()

    def flush(self) -> Iterator[Any]:
        """Yields what is left at the end."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._ready()

    def _made(self) -> Any:
        import av.filter

        graph = av.filter.Graph()
        parts = [
            graph.add_buffer(template=self._stream),
            graph.add("bwdif", "mode=send_frame:deint=interlaced"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*parts).configure()
        return graph

    def _ready(self) -> Iterator[Any]:
        import av

        while True:
            try:
                frame = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield frame
