"""Frames of two fields, taken at two moments, woven into one picture of the first moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

COMB = 64  # gray levels squared: rows that stand out of both their neighbours by 8 levels and more
COMBED = 1.0  # of `combing`: 47 progressive clips of all kinds reach 0.6 at most, fields in motion 1.3 to 7
PLAIN = 0.002  # share of the picture that stands out by noise


def combing(light: np.ndarray) -> float:
    """How far a picture looks woven of two moments: COMBED and more where it does, uint8 [H, W] with H > 4.

    Pixels that stand out of the rows above and below, against those that stand out of the next rows of their
    own field: detail of one moment has more of these, and the combs of two moments have only the others.
    """
    rows = light.astype(np.int32)
    middle = rows[2:-2]
    near = (middle - rows[1:-3]) * (middle - rows[3:-1]) > COMB
    own = (middle - rows[:-4]) * (middle - rows[4:]) > COMB
    return float(near.mean() / (own.mean() + PLAIN))


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
