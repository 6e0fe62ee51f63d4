"""The side-by-side video: real, rendered and error, with the clip's own sound."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from nldf_engine.evaluation.report.drawing import error_share

SMALLEST_PANEL = 256
STRIP = 32


class ComparisonVideo:
    """The side-by-side video: real, rendered and error, with the clip's own sound.

    Frames that are not scored are shown too, so that picture and sound stay together.

    Args:
        path: the mp4 to write; it appears when the block ends without an error.
        width: a frame's width in pixels; frames under 256 are enlarged by a whole factor.
        height: a frame's height in pixels.
        fps: frames a second.
        audio: (samples, rate), or None.
    """

    def __init__(
        self, path: Path, width: int, height: int, fps: float, audio: tuple[np.ndarray, int] | None
    ) -> None:
        import cv2

        from nldf_engine.avatar.provenance.origin import comparison_tags
        from nldf_engine.media.video import VideoWriter

        factor = -(-SMALLEST_PANEL // max(width, height))
        self._size = (width * factor, height * factor)
        colours = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_MAGMA)
        self._colours = np.ascontiguousarray(colours[:, 0, ::-1])
        width, height = 3 * self._size[0], self._size[1] + STRIP
        self._writer = VideoWriter(path, width, height, fps=fps, audio=audio, metadata=comparison_tags())

    def __enter__(self) -> ComparisonVideo:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, value, trace)

    def write(self, real: np.ndarray, rendered: np.ndarray, note: str) -> None:
        """Adds a frame of real and rendered [H, W, 3] uint8; `note` is written above the error."""
        import cv2

        width, height = self._size
        error = self._colours[(error_share(rendered, real) * 255).astype(np.uint8)]
        page = np.full((height + STRIP, 3 * width, 3), 18, np.uint8)
        captions = ("real", "rendered", f"error  {note}")
        for index, (panel, caption) in enumerate(zip((real, rendered, error), captions, strict=True)):
            large = cv2.resize(panel, self._size, interpolation=cv2.INTER_CUBIC)
            page[STRIP:, index * width : (index + 1) * width] = large
            place = (index * width + 10, STRIP - 10)
            cv2.putText(page, caption, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
        self._writer.write(page)
