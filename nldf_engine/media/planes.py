"""Pictures as video stores them: brightness at full size and two differences of colour at half of it.

What passes through a program only to be stored again stays in this form: it is half the size of RGB, and
nothing is lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nldf_engine.media.grading import is_hdr

# Of ITU-T H.273: matrix coefficients to (share of red, share of blue) in the brightness.
WEIGHTS = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}  # fmt: skip
UNSAID, FULL = 2, 2  # a matrix that is not stated; the range of 0 to 255
HIGH = 720  # lines from which on an untagged picture is taken for BT.709, as broadcasting has it


@dataclass(frozen=True)
class Colours:
    """What the numbers of a picture mean, as ITU-T H.273 numbers it.

    Args:
        matrix: from RGB to brightness and colour differences.
        primaries, transfer: of the RGB.
        range: 1 for 16 to 235 (0 counts as such), 2 for 0 to 255.
    """

    matrix: int = 1
    primaries: int = 1
    transfer: int = 1
    range: int = 1

    @classmethod
    def of(cls, frame: Any) -> Colours:
        """Those of an av frame."""
        full = FULL if frame.format.name.startswith("yuvj") else int(frame.color_range or 0)
        return cls(
            int(frame.colorspace), int(frame.color_primaries or UNSAID), int(frame.color_trc or UNSAID), full
        )

    def tag(self, thing: Any) -> None:
        """Sets the tags of an av frame or codec context."""
        thing.colorspace, thing.color_range = self.matrix, self.range
        thing.color_primaries, thing.color_trc = self.primaries, self.transfer

    def known_matrix(self, height: int) -> int:
        """The matrix, by the size of the picture where it is not stated."""
        return self.matrix if self.matrix != UNSAID else 1 if height >= HIGH else 5

    def from_rgb(self, height: int) -> np.ndarray:
        """[3, 4] float32: (red, green, blue, 1) in levels of 0 to 255 to the three planes' levels.

        Args:
            height: of the picture, which says what an untagged one is.

        Raises:
            KeyError: the matrix is none of `WEIGHTS`.
        """
        red, blue = WEIGHTS[self.known_matrix(height)]
        bright = np.array([red, 1 - red - blue, blue])
        rows = np.stack(
            [bright, (np.eye(3)[2] - bright) / (2 * (1 - blue)), (np.eye(3)[0] - bright) / (2 * (1 - red))]
        )
        scale, low = ([1.0, 1.0, 1.0], 0.0) if self.range == FULL else ([219 / 255, *[224 / 255] * 2], 16.0)
        return np.column_stack([rows * np.array(scale)[:, None], [low, 128.0, 128.0]]).astype(np.float32)


BT709 = Colours()


class Planes:
    """A picture [H, W] of 8 bits in 4:2:0, in memory of its own.

    Args:
        frame: an av frame in yuv420p that nothing else uses.
        colours: what its numbers mean.

    Attributes:
        frame, colours: as given.
        parts: views of its memory: brightness uint8 [H, W], and the differences of blue and red uint8
            [ceil(H / 2), ceil(W / 2)].
    """

    def __init__(self, frame: Any, colours: Colours = BT709) -> None:
        self.frame, self.colours = frame, colours
        colours.tag(frame)
        self.parts = tuple(views(frame))

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.frame.height, self.frame.width

    def turned(self, turns: int) -> tuple[np.ndarray, ...]:
        """`parts` after so many quarter turns counter-clockwise: views of the same memory."""
        return tuple(np.rot90(part, turns) for part in self.parts)

    @classmethod
    def empty(cls, height: int, width: int, colours: Colours = BT709) -> Planes:
        """Planes of any content."""
        import av

        return cls(av.VideoFrame(width, height, "yuv420p"), colours)

    @classmethod
    def of(cls, parts: Iterable[np.ndarray], colours: Colours) -> Planes:
        """A copy of three planes, as `parts` has them."""
        arrays = list(parts)
        height, width = arrays[0].shape
        made = cls.empty(height, width, colours)
        for own, part in zip(made.parts, arrays, strict=True):
            own[:] = part
        return made

    def blend(self, other: Planes, share: float) -> None:
        """Makes it (1 - share) of itself and `share` of another one of its size."""
        import cv2

        for own, part in zip(self.parts, other.parts, strict=True):
            cv2.addWeighted(own, 1 - share, part, share, 0, dst=own)


def views(frame: Any) -> Iterator[np.ndarray]:
    """The planes of an av frame in yuv420p as arrays [rows, columns] of its own memory."""
    for plane in frame.planes:
        yield np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def is_plain(frame: Any, aspect: object) -> bool:
    """Whether an av frame can be taken as it is: 8-bit 4:2:0, square pixels, matrix of `WEIGHTS`, no HDR."""
    matrix = int(frame.colorspace)
    square = (not aspect or aspect == 1) and not is_hdr(int(frame.color_trc or 0))
    return frame.format.name in ("yuv420p", "yuvj420p") and square and matrix in (*WEIGHTS, UNSAID)
