"""Which part of a frame is the film, and which way up: bars, an inset over slides, a video on its side.

Bars are borders in which nothing ever happens, with a sharp edge; or two of one width without any detail, as
where a tall film stands before a blurred copy of itself. An inset is a rectangle about the face with
sides that are edges along their whole length and never move. A video lies on its side where faces are found
with more certainty once it is turned.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nldf_engine.datasets.problems import Problem
from nldf_engine.media.video import VideoInfo

QUIET = 12  # gray levels that a bar may change by
PLAIN = 4.0  # standard deviation in gray levels along a row or column of a bar
SHARP, SHARP_SHARE = 8, 0.4  # gray levels between a bar and the film, and along which share of its edge
THINNEST = 4  # pixels of a bar
SMALLEST_FILM = 0.15  # of the frame, that bars and slides leave
EDGE = 8  # gray levels across a side of an inset, in every sample
COVERED = 0.75  # share of a side of an inset that is such an edge
SMALLER = 0.9  # of the film's area, that an inset takes at most
BEYOND = 12  # pixels behind a corner, along which a side does not go on
NOTHING = 1e-3  # share of a border that holds nothing sharp, that may be an edge all the same
CANDIDATES = 8  # lines to each side of a face that are tried as sides of an inset
TRIM = 2  # pixels beside the border that the codec has mixed
FEWEST = 3  # samples below which nothing is said
CLEAR = 0.8  # certainty below which a face counts only where no way up shows a clearer one
TURNED = 1.1  # by how much more certain faces must be in a turned video
TILTED = 40.0  # degrees beyond which a head is not taken for upright, also after turning


Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class View:
    """What of a frame is looked at.

    Args:
        turns: quarter turns counter-clockwise that bring heads upright.
        x, y, width, height: the film in the turned frame, pixels; a width of 0 takes all of it.
    """

    turns: int = 0
    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0

    def of(self, frame: np.ndarray) -> np.ndarray:
        """The part [h, w, 3] of an upright frame [H, W, 3]; a view of its memory."""
        turned = np.rot90(frame, self.turns) if self.turns else frame
        if not self.width:
            return turned
        return turned[self.y : self.y + self.height, self.x : self.x + self.width]

    def seen(self, info: VideoInfo) -> VideoInfo:
        """The video as it is seen so."""
        if self.width:
            return replace(info, width=self.width, height=self.height)
        if self.turns % 2:
            return replace(info, width=info.height, height=info.width)
        return info

    def problems(self, inset: bool) -> list[Problem]:
        """What was done, for a person; `inset` says that what is left out is more than bars."""
        found = []
        if self.turns:
            how = {1: "90 degrees counter-clockwise", 2: "180 degrees", 3: "90 degrees clockwise"}[self.turns]
            found.append(Problem("framing", f"the head lies on its side; turned by {how}", "", "note"))
        if self.width and inset:
            size = f"{self.width} x {self.height} pixels"
            what = f"the speaker is an inset of {size}; what is around it is cut off"
            found.append(
                Problem("backdrop", what, "give the camera's own recording where there is one", "warning")
            )
        elif self.width:
            what = f"borders without a picture are cut off, which leaves {self.width} x {self.height} pixels"
            found.append(Problem("framing", what, "", "note"))
        return found


class Borders:
    """What never changes in the samples of a video.

    Attributes:
        count: of samples.
    """

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the samples, pixels."""
        return self._low.shape[1], self._low.shape[0]

    def __init__(self) -> None:
        self.count = 0
        nothing: np.ndarray = np.zeros((0, 0), np.uint8)
        self._low = self._high = self._across = self._down = nothing

    def add(self, frame: np.ndarray) -> None:
        """Takes in a sample, uint8 [H, W, 3]."""
        import cv2

        gray = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
        # Of any colour: slides and film may be equally bright.
        across = cv2.absdiff(frame[:, 1:], frame[:, :-1]).max(-1)
        down = cv2.absdiff(frame[1:], frame[:-1]).max(-1)
        if not self.count:
            self._low, self._high, self._across, self._down = gray, gray, across, down
        else:
            low: np.ndarray = np.minimum(self._low, gray)
            high: np.ndarray = np.maximum(self._high, gray)
            self._low, self._high = low, high
            self._across, self._down = np.minimum(self._across, across), np.minimum(self._down, down)
        self.count += 1

    def bars(self) -> Box:
        """(left, top, right, bottom) of the film without bars, in pixels of the samples."""
        height, width = self._low.shape
        if self.count < FEWEST:
            return 0, 0, width, height
        left, right = self._quiet(self._low, self._high)
        top, bottom = self._quiet(self._low.T, self._high.T)
        if (right - left) * (bottom - top) < SMALLEST_FILM * width * height:
            return 0, 0, width, height
        usual = (self._low.astype(np.int16) + self._high) // 2
        inner = usual[top:bottom, left:right]
        for_columns, for_rows = usual[top:bottom], usual[:, left:right].T
        left = left if _sharp(for_columns, left, inner[:, TRIM]) else 0
        right = right if _sharp(for_columns[:, ::-1], width - right, inner[:, -1 - TRIM]) else width
        top = top if _sharp(for_rows, top, inner[TRIM]) else 0
        bottom = bottom if _sharp(for_rows[:, ::-1], height - bottom, inner[-1 - TRIM]) else height
        return left, top, right, bottom

    def filled(self) -> Box | None:
        """The film between two borders of one width without detail, as a blurred copy of it has; or None."""
        height, width = self._low.shape
        if self.count < FEWEST:
            return None
        beside, above = _soft_border(self._across, self._down), _soft_border(self._down.T, self._across.T)
        box = beside, above, width - beside, height - above
        return box if (beside or above) and _area(box) >= SMALLEST_FILM * width * height else None

    @staticmethod
    def _quiet(low: np.ndarray, high: np.ndarray) -> tuple[int, int]:
        """First and last column that is no bar."""
        busy = ((high - low).max(0) > QUIET) | (low.std(0) > PLAIN)
        if not busy.any():
            return 0, low.shape[1]
        return int(np.argmax(busy)), int(len(busy) - np.argmax(busy[::-1]))

    def inset(self, face: Sequence[float], film: Box) -> Box | None:
        """A small rectangle about a face (x, y, width, height) whose sides never move; None for none.

        Args:
            film: where to look, (left, top, right, bottom); its border needs no edge.
        """
        if self.count < FEWEST:
            return None
        x, y, wide, high = face
        left, top, right, bottom = film
        rows = slice(max(top, int(y)), min(bottom, int(y + high)))
        columns = slice(max(left, int(x)), min(right, int(x + wide)))
        if rows.stop - rows.start < 8 or columns.stop - columns.start < 8:
            return None
        across, down = _thick(self._across > EDGE), _thick((self._down > EDGE).T).T
        beside = across[rows].mean(0) >= COVERED
        along = down[:, columns].mean(1) >= COVERED
        sides = (
            [left, *_near(beside, left, int(x), True)], [top, *_near(along, top, int(y), True)],
            [right, *_near(beside, int(x + wide), right, False)],
            [bottom, *_near(along, int(y + high), bottom, False)],
        )  # fmt: skip

        def framed(box: tuple[int, ...]) -> bool:
            a, b, c, d = box
            beside = [across[b:d, at] for at, is_line in ((a - 1, a > left), (c - 1, c < right)) if is_line]
            along = [down[at, a:c] for at, is_line in ((b - 1, b > top), (d - 1, d < bottom)) if is_line]
            # A line across the whole picture is no inset: that has a corner at least.
            return bool(beside and along) and min(side.mean() for side in beside + along) >= COVERED

        def goes_on(box: tuple[int, ...]) -> int:
            """How many sides go on behind a corner, as those of a larger rectangle about this one do."""
            a, b, c, d = box
            lines = [
                *((across[:, at], b, d, top, bottom) for at in (a - 1, c - 1) if left <= at < right - 1),
                *((down[at], a, c, left, right) for at in (b - 1, d - 1) if top <= at < bottom - 1),
            ]
            ends = [
                part
                for edge, begin, end, first, last in lines
                for part in (
                    edge[max(first, begin - BEYOND) : max(first, begin - TRIM)],
                    edge[min(last, end + TRIM) : min(last, end + BEYOND)],
                )
            ]
            return sum(bool(len(part) > TRIM and part.mean() >= COVERED) for part in ends)

        found = [box for box in itertools.product(*sides) if framed(box)]
        found = [box for box in found if _area(box) < SMALLER * _area(film)]
        # Lines of the slides make larger ones, and lines of the room smaller ones with sides that go on.
        return min(found, key=lambda box: (1 + goes_on(box)) * _area(box)) if found else None


def _area(box: Sequence[int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _soft_border(across: np.ndarray, down: np.ndarray) -> int:
    """How wide the border [H, a] on the left is: its edge is mirrored on the right, with none outside.

    Args:
        across, down: [H, W - 1] and [H - 1, W] least steps between neighbours.
    """
    lines, width = _thick(across > EDGE).mean(0), across.shape[1] + 1
    for a in range(THINNEST + 2 * TRIM, width // 2 - TRIM):
        if min(lines[a - 1], lines[width - a - 1 - TRIM : width - a + TRIM].max()) < COVERED:
            continue
        kept, beyond = a - 2 * TRIM, width - a + 2 * TRIM
        outside = [part > EDGE for steps in (across, down) for part in (steps[:, :kept], steps[:, beyond:])]
        if np.concatenate([part.ravel() for part in outside]).mean() < NOTHING:
            return a
    return 0


def _sharp(columns: np.ndarray, thick: int, inside: np.ndarray) -> bool:
    """Whether a bar of so many columns [N, W] from the left ends in an edge to the pixels `inside` [N]."""
    if thick < THINNEST:
        return False
    return bool((np.abs(inside - columns[:, max(0, thick - 1 - TRIM)]) > SHARP).mean() > SHARP_SHARE)


def _thick(edges: np.ndarray) -> np.ndarray:
    """Edges [H, W] together with those one column beside."""
    made = edges.copy()
    made[:, 1:] |= edges[:, :-1]
    return made


def _near(lines: np.ndarray, low: int, high: int, last: bool) -> list[int]:
    """Numbers in low..high of the pixels that begin behind a line, those nearest to the face first."""
    found = (np.flatnonzero(lines[low:high]) + low + 1).tolist()
    return (found[::-1] if last else found)[:CANDIDATES]


def better_turn(frames: Sequence[np.ndarray], look: Callable[[np.ndarray], tuple[float, float]]) -> int:
    """Quarter turns counter-clockwise by which faces are found with the most certainty; 0 unless it is clear.

    Args:
        frames: uint8 [H, W, 3], some samples.
        look: certainty (0 where there is none) and roll in degrees of the face in a frame.
    """
    found = np.array([[look(np.ascontiguousarray(np.rot90(f, k))) for f in frames] for k in range(4)])
    clear = np.where(found[..., 0] >= CLEAR, found[..., 0], 0.0)
    certainty = (clear if clear.any() else found[..., 0]).sum(1)
    best = int(certainty.argmax())
    known = found[best, found[best, :, 0] > 0, 1]
    if best == 0 or not len(known) or abs(float(np.median(known))) > TILTED:
        return 0
    return best if certainty[best] > TURNED * certainty[0] else 0
