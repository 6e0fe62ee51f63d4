"""Shots of an edited video, brought into the framing and the light of one of them.

Between jump cuts the same person sits before the same backdrop, and the picture is enlarged, moved and
graded anew. What keeps still within a shot (backdrop, shoulders) is compared with what keeps still in the one
that shows a face longest: a similarity and a gain and offset a colour channel bring a shot into its framing.
A shot that shows something else is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.datasets.problems import Problem
from nldf_engine.faces import PersonMask
from nldf_engine.media.video import JITTER, decode
from nldf_engine.prepare.align import Aligner, Prior
from nldf_engine.prepare.view import View

LOOK_AT = 960  # pixels: the longer side of the pictures that fill what a shot does not show
WORK = 192  # pixels: the longer side of those that are compared
SHORTEST = 12  # decoded frames; what is shorter belongs to no shot
PICTURES = 9  # of a shot
STILL = 8.0  # gray levels that a pixel may depart from its median by, to count as still
LEAST_STILL = 0.1  # of the picture
SCALES = np.geomspace(1 / 1.6, 1.6, 25)
MIDDLE = 0.6  # of the picture's sides, of what is looked for in the other picture
# x, y in pixels of WORK; scale, turn: how far the search may be off.
SPREAD = np.array([4.0, 4.0, 0.04, 0.02])
SEEN, CLEARANCE = 256, 4  # pixels: what the person network sees; of WORK, kept off the person
CERTAIN = 0.9  # how far the backdrop must decide each motion to be all that counts
REFINED = 3
ALIKE = 0.8  # correlation of what is still, below which a shot shows something else
SAME_FRAMING, SAME_LIGHT = 0.004, 0.02  # shares of the side, of the levels: less is left as it is
# The lowest part of a frame, a share of its height, by which shoulders are followed; how certain their motion
# must be, and how far it may go.
BAND, LEAST_CERTAIN, FARTHEST = 0.2, 0.1, 0.08
UNCHANGED = np.tile([1.0, 0.0], (3, 1))  # gain and offset of each channel
CUT_LEVELS = 14.0  # gray levels between two frames
CUT_TIMES = 8.0  # times the usual change


def cuts_of(changes: np.ndarray) -> list[int]:
    """Frames that begin a new shot, by how much each [T] differs from the one before, in gray levels."""
    change = np.asarray(changes[1:], np.float32)
    if len(change) < 2:
        return []
    usual = float(np.median(change))
    around = np.array([np.median(change[max(0, k - 6) : k + 7]) for k in range(len(change))])
    cut = (change > CUT_LEVELS) & (change > CUT_TIMES * max(usual, 0.2)) & (change > 3 * around)
    return (np.flatnonzero(cut) + 1).tolist()


@dataclass(frozen=True)
class Shots:
    """The shots of a video, N of them.

    Args:
        begins: float64 [N], seconds of the decoded clock at which each begins; the first at 0.
        place: float64 [N, 2, 3], (x, y, 1) of the common framing to a shot's own, in pixels of the view.
        light: float64 [N, 3, 2], gain and offset (levels) a channel that bring a shot to the common light.
        match: float64 [N], correlation with the shot whose framing is the common one.
        reference: number of that shot; of no shot here where it is none of a `part`.
        filling: uint8 [H, W, 3], what the common framing usually shows, for what a shot does not; of one
            pixel where there is one shot.
    """

    begins: np.ndarray
    place: np.ndarray
    light: np.ndarray
    match: np.ndarray
    reference: int
    filling: np.ndarray

    @classmethod
    def single(cls) -> Shots:
        """An unbroken video."""
        return cls(
            np.zeros(1), np.eye(2, 3)[None], UNCHANGED[None], np.ones(1), 0,
            np.zeros((1, 1, 3), np.uint8),
        )  # fmt: skip

    @classmethod
    def of_tensors(cls, found: dict[str, np.ndarray], reference: int) -> Shots:
        """What `tensors` gave."""
        return cls(
            found["begins"], found["place"], found["light"], found["match"], reference, found["filling"]
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """For the cache."""
        names = ("begins", "place", "light", "match", "filling")
        return {name: getattr(self, name) for name in names}

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def usable(self) -> np.ndarray:
        """bool [N], shots that show what the common one does."""
        made: np.ndarray = self.match >= ALIKE
        return made

    def at(self, times: np.ndarray | float) -> np.ndarray:
        """The shot's number at seconds of the decoded clock."""
        return np.maximum(np.searchsorted(self.begins, np.asarray(times) + 1e-6, side="right") - 1, 0)

    def boxes(self, boxes: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Boxes [F, 6] (sample, x, y, width, height, certainty) in the common framing; those of usable shots.

        Args:
            times: [F], seconds.
        """
        made, shots = boxes.copy(), self.at(times)
        inverse = np.linalg.inv(self.place[:, :, :2])[shots]
        middle = boxes[:, 1:3] + boxes[:, 3:5] / 2 - self.place[shots, :, 2]
        scale = np.sqrt(np.linalg.det(inverse))[:, None]
        made[:, 3:5] = boxes[:, 3:5] * scale
        made[:, 1:3] = np.einsum("fij,fj->fi", inverse, middle) - made[:, 3:5] / 2
        return made[self.usable[shots]]

    def part(self, first: int, last: int) -> Shots:
        """Shots number `first` up to `last`, not included."""
        keep = slice(first, last)
        return replace(
            self, begins=self.begins[keep], place=self.place[keep], light=self.light[keep],
            match=self.match[keep], reference=self.reference - first,
        )  # fmt: skip

    def frame(self, frame: np.ndarray, time: float) -> np.ndarray:
        """A frame of the view uint8 [H, W, 3] at a time in seconds, in the common framing and light."""
        import cv2

        number = int(self.at(time))
        place, light = self.place[number], self.light[number]
        size = frame.shape[1::-1]
        if not np.array_equal(place, np.eye(2, 3)):
            matrix = place.copy()
            matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
            flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
            moved = cv2.warpAffine(frame, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            moved = _lit(moved, light)
            inside = cv2.warpAffine(
                np.full(frame.shape[:2], 255, np.uint8),
                matrix,
                size,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            )
            filling = cv2.resize(self.filling, size, interpolation=cv2.INTER_CUBIC)
            return np.asarray(np.where((inside > 254)[..., None], moved, _following(filling, moved, inside)))
        return _lit(frame, light)

    def frames_on(self, times: np.ndarray, clock: np.ndarray | None, fps: float) -> np.ndarray:
        """int64 [N], the frames at which the shots begin on an even clock.

        Args:
            times: [F] seconds of the decoded frames; clock: the same on another clock, or None.
            fps: frames a second.
        """
        on = times if clock is None else clock
        known = np.flatnonzero(np.isfinite(on))
        at = np.searchsorted(known, np.searchsorted(times, self.begins - 1e-6))
        first = on[known[np.minimum(at, len(known) - 1)]]
        return np.ceil((first - JITTER) * fps - 1e-9).astype(np.int64).clip(0)

    def metrics(self, begins: np.ndarray, valid: np.ndarray, fps: float) -> list[dict[str, Any]]:
        """What each shot gives, for the report.

        Args:
            begins: int64 [N], the frames of the dataset that they begin at.
            valid: bool [T], frames that can be learned from.
            fps: frames a second.
        """
        ends = [*begins[1:].tolist(), len(valid)]
        rows = []
        for number, (begin, end) in enumerate(zip(begins.tolist(), ends, strict=True)):
            place = self.place[number]
            rows.append({
                "begin": round(begin / fps, 2), "end": round(end / fps, 2),
                "zoom": round(float(np.sqrt(np.linalg.det(place[:, :2]))), 4),
                "shift": [round(float(v), 1) for v in place[:, 2]],
                "gain": round(float(self.light[number, :, 0].mean()), 3),
                "match": round(float(self.match[number]), 3),
                "used": bool(self.usable[number]),
                "frames": int(valid[begin:end].sum()),
            })  # fmt: skip
        return rows


def problems_of(rows: Sequence[dict[str, Any]]) -> list[Problem]:
    """What a person should know of shots; `rows` are those of `Shots.metrics`."""
    if len(rows) < 2:
        return []
    used = [row for row in rows if row["used"]]
    zooms = [row["zoom"] for row in used]
    framed = f"{len(used)} are brought into one framing, enlarged by {min(zooms):.2f} to {max(zooms):.2f}"
    what = f"{len(rows)} shots; {framed}"
    found = [Problem("cuts", what, "one unbroken shot is best", "note")]
    lost = [row for row in rows if not row["used"]]
    if lost:
        seconds = sum(row["end"] - row["begin"] for row in lost)
        when = ", ".join(f"{row['begin']:.1f} s" for row in lost[:5]) + (" ..." if len(lost) > 5 else "")
        share = seconds / max(rows[-1]["end"], 1e-6)
        what = f"{len(lost)} of {len(rows)} shots show something else, {seconds:.2f} s in all, from {when}"
        what = f"{what}; left out"
        found.append(Problem("cuts", what, "cut them out", "severe" if share > 0.5 else "warning"))
    return found


def _following(filling: np.ndarray, frame: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The filling [H, W, 3] with its lower part, the shoulders, moved to where the frame has them.

    Args:
        frame: uint8 [H, W, 3]; inside: uint8 [H, W], 255 where it shows something.
    """
    import cv2

    rows, columns = (np.flatnonzero((inside > 254).any(axis)) for axis in (1, 0))
    if not len(rows):
        return filling
    height, width = inside.shape
    band = np.s_[int(rows[-1] - BAND * height) : rows[-1], columns[0] : columns[-1]]
    pair = [cv2.cvtColor(p[band], cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (filling, frame)]
    window = cv2.createHanningWindow(pair[0].shape[::-1], cv2.CV_32F)
    (x, y), certain = cv2.phaseCorrelate(pair[0], pair[1], window)
    if certain < LEAST_CERTAIN or max(abs(x), abs(y)) > FARTHEST * height:
        return filling
    matrix = np.array([[1, 0, x], [0, 1, y]])
    moved = cv2.warpAffine(filling, matrix, (width, height), flags=cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    apart = [float(cv2.absdiff(picture[band], frame[band]).mean()) for picture in (moved, filling)]
    if apart[0] >= apart[1]:  # something else moves there
        return filling
    # From the band on downwards; above it the backdrop keeps still.
    weight = np.clip((np.arange(height) - (rows[-1] - BAND * height)) / (0.25 * BAND * height), 0, 1)
    blended = filling + weight[:, None, None] * (moved.astype(np.float32) - filling)
    return np.rint(blended).astype(np.uint8)


def _lit(frame: np.ndarray, light: np.ndarray) -> np.ndarray:
    import cv2

    if np.array_equal(light, UNCHANGED):
        return frame
    levels = np.arange(256)[:, None] * light[:, 0] + light[:, 1]
    return np.asarray(cv2.LUT(frame, np.clip(np.rint(levels), 0, 255).astype(np.uint8)[None]))


def find_shots(
    path: Path, view: View, times: np.ndarray, changes: np.ndarray, faces: np.ndarray | None = None
) -> Shots:
    """Finds the shots of a video and how they lie in the framing of that which shows a face longest.

    Args:
        path: the video; view: what of its frames is looked at.
        times: [F] seconds of its decoded frames; changes: [F], how much each differs from the one before.
        faces: [N] seconds of evenly spread frames that show a face; all do where None.
    """
    begins = [0, *cuts_of(changes)]
    if len(begins) < 2:
        return Shots.single()
    lengths = np.diff([*begins, len(times)])
    shown_in = np.searchsorted(times[begins], times if faces is None else faces, side="right") - 1
    shown_for = np.bincount(shown_in.clip(0), minlength=len(begins))
    reference = int(np.lexsort((lengths, shown_for))[-1])
    person, width = PersonMask(), 0
    still: list[_Still | None] = []
    filling = np.zeros((1, 1, 3), np.uint8)
    for shown, wide in _pictures(path, view, [(a, a + n) for a, n in zip(begins, lengths, strict=True)]):
        width = wide
        if len(still) == reference:
            filling = np.median(shown, axis=0).astype(np.uint8)
        long = len(still) == reference or lengths[len(still)] >= SHORTEST
        still.append(_Still.of(shown, person) if long else None)
    common = still[reference]
    assert common is not None
    found = [_Alignment(np.eye(2, 3), UNCHANGED, 0.0) if one is None else common.align(one) for one in still]
    found[reference] = _Alignment(np.eye(2, 3), UNCHANGED, 1.0)
    place = np.stack([one.place for one in found])
    place[:, :, 2] *= width / common.gray.shape[1]  # from pixels of WORK to those of the view
    return Shots(
        np.array([times[begin] for begin in begins]), place,
        np.stack([one.light for one in found]), np.array([one.match for one in found]), reference, filling,
    )  # fmt: skip


def _pictures(path: Path, view: View, shots: Sequence[tuple[int, int]]) -> Iterator[tuple[np.ndarray, int]]:
    """Some pictures of each shot, uint8 [P, h, w, 3], of LOOK_AT pixels at most; and the view's width."""
    import cv2

    frames = enumerate(decode(path))
    for begin, end in shots:
        edge = min(2, (end - begin - 1) // 2)  # the codec mixes the first and last pictures of a shot
        wanted = set(np.linspace(begin + edge, end - 1 - edge, PICTURES).round().astype(int).tolist())
        kept, width = [], 0
        for _, shot in ((n, shot) for n, shot in islice(frames, end - begin) if n in wanted):
            frame = np.ascontiguousarray(view.of(shot.picture()))
            scale, width = min(1.0, LOOK_AT / max(frame.shape[:2])), frame.shape[1]
            if scale < 1:
                frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            kept.append(frame)
        yield np.stack(kept), width


@dataclass(frozen=True)
class _Alignment:
    """How a shot lies in the common framing: see `Shots`; places in pixels of WORK."""

    place: np.ndarray
    light: np.ndarray
    match: float


@dataclass(frozen=True)
class _Still:
    """What keeps still in a shot.

    Args:
        colour: float32 [h, w, 3], median; gray: float32 [h, w].
        still: bool [h, w]; backdrop: bool [h, w], of that what is beside the person.
    """

    colour: np.ndarray
    gray: np.ndarray
    still: np.ndarray
    backdrop: np.ndarray

    @classmethod
    def of(cls, pictures: np.ndarray, person: PersonMask) -> _Still:
        """Of pictures uint8 [P, h, w, 3] of one shot."""
        import cv2

        scale = min(1.0, WORK / max(pictures.shape[1:3]))
        small = np.stack(
            [cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for p in pictures]
        )
        colour = np.median(small, axis=0).astype(np.float32)
        away = np.percentile(np.abs(small.astype(np.float32) - colour).max(-1), 75, axis=0)
        still: np.ndarray = away < STILL
        gray = colour @ np.array([0.299, 0.587, 0.114], np.float32)
        soft = person(cv2.resize(pictures[len(pictures) // 2], (SEEN, SEEN), interpolation=cv2.INTER_AREA))
        mask = cv2.resize(soft, small.shape[2:0:-1], interpolation=cv2.INTER_AREA) > 0.2
        grown = cv2.dilate(mask.astype(np.uint8), np.ones((2 * CLEARANCE + 1,) * 2, np.uint8)) > 0
        return cls(colour, cv2.GaussianBlur(gray, (0, 0), 0.7), still, still & ~grown)

    def align(self, other: _Still) -> _Alignment:
        """How another shot lies in this one's framing."""
        if min(self.still.mean(), other.still.mean()) < LEAST_STILL:
            return _Alignment(np.eye(2, 3), UNCHANGED, 0.0)
        begin = self._search(other)
        aligner, counts = Aligner(self.gray, self.still), other.still.astype(np.float32)
        start = self._motion(begin, aligner.middle)
        found = aligner.align(other.gray, start, [Prior.of(start, SPREAD)], counts)
        # Shoulders may have moved between the shots: what the backdrop can say alone, it says.
        if min(self.backdrop.mean(), other.backdrop.mean()) > LEAST_STILL:
            beside = Aligner(self.gray, self.backdrop, aligner.middle)
            if beside.certainty([Prior.of(np.zeros(4), SPREAD)]).min() > CERTAIN:
                aligner, counts = beside, other.backdrop.astype(np.float32)
        for _ in range(REFINED):
            found = aligner.align(other.gray, found.motion, [Prior.of(found.motion, SPREAD)], counts)
        x, y, scale, turn = found.motion
        linear = np.array([[1 + scale, -turn], [turn, 1 + scale]])
        middle = aligner.middle + 0.5
        place = np.column_stack([linear, middle + np.array([x, y]) - linear @ middle])
        corners = np.array([[0, 0, 1], [self.gray.shape[1], self.gray.shape[0], 1.0]]).T
        if np.abs(place @ corners - corners[:2]).max() < SAME_FRAMING * max(self.gray.shape):
            place = np.eye(2, 3)
        return _Alignment(place, self._light(other, place), found.match)

    def _search(self, other: _Still) -> np.ndarray:
        """[2, 3], pixels of this one to those of the other, roughly: the scale and shift that match best."""
        import cv2

        height, width = self.gray.shape
        margin = np.round(np.array([height, width]) * (1 - MIDDLE) / 2).astype(int)
        rows, columns = slice(margin[0], height - margin[0]), slice(margin[1], width - margin[1])
        looked_for = self.gray[rows, columns]
        mask = self.still[rows, columns].astype(np.float32)
        best, found = -2.0, np.eye(2, 3)
        for scale in SCALES:
            size = (round(width / scale), round(height / scale))
            picture = cv2.resize(other.gray, size, interpolation=cv2.INTER_AREA)
            if picture.shape[0] < looked_for.shape[0] or picture.shape[1] < looked_for.shape[1]:
                continue
            scores = cv2.matchTemplate(picture, looked_for, cv2.TM_CCOEFF_NORMED, mask=mask)
            scores = np.where(np.isfinite(scores) & (scores <= 1.001), scores, -2.0)
            y, x = np.unravel_index(int(scores.argmax()), scores.shape)
            if scores[y, x] > best:
                best = float(scores[y, x])
                move = np.array([x - margin[1], y - margin[0]]) * scale
                found = np.column_stack([np.eye(2) * scale, move])
        return found

    @staticmethod
    def _motion(place: np.ndarray, middle: np.ndarray) -> np.ndarray:
        """A similarity [2, 3] of pixels, edges at whole numbers, as the motion [4] about `middle`."""
        centre = middle + 0.5
        move = place[:, :2] @ centre + place[:, 2] - centre
        return np.array([move[0], move[1], place[0, 0] - 1, place[1, 0]])

    def _light(self, other: _Still, place: np.ndarray) -> np.ndarray:
        """[3, 2]: gain and offset a channel that bring the other to this one, where both are still."""
        import cv2

        matrix = place.copy()
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        size, flags = self.gray.shape[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(other.colour, matrix, size, flags=flags)
        known = cv2.warpAffine(other.still.astype(np.float32), matrix, size, flags=flags) > 0.99
        known &= self.still
        light = UNCHANGED.copy()
        if known.sum() < 100:
            return light
        for channel in range(3):
            a, b = seen[known][:, channel].astype(np.float64), self.colour[known][:, channel]
            counts = ((a > 4) & (a < 250)).astype(np.float64)
            for _ in range(4):
                spread = np.sqrt(counts.sum() * (counts * a * a).sum() - (counts * a).sum() ** 2)
                if spread < 1e-3:
                    break
                gain, offset = np.polyfit(a, b, 1, w=np.sqrt(counts))
                light[channel] = gain, offset
                off = np.abs(gain * a + offset - b)
                counts = counts * np.minimum(1.0, 4.0 / np.maximum(off, 1e-3))
        levels = np.array([40.0, 128.0, 215.0])[:, None]
        change = levels * light[:, 0] + light[:, 1] - levels
        if np.abs(change).max() < SAME_LIGHT * 255:
            return UNCHANGED
        return light
