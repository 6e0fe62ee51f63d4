"""Finding the speaker's head in a whole frame, and the one square crop that the dataset shows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nldf_engine.base.clock import FPS
from nldf_engine.base.progress import Bar
from nldf_engine.faces import Detection, FaceDetector
from nldf_engine.media.video import VideoInfo, decode
from nldf_engine.prepare.view import TRIM, Borders, View, better_turn

SAMPLES_PER_SECOND = 2.0
FEWEST_SHOWN = 3  # samples with a face, below which their combs say nothing of the film
LOOK_AT = 960  # pixels: the longer side of the frames that are searched
MESH_TO_BOX = 1.04  # height of the face mesh (forehead to chin) over that of a detected box
FACE_CENTRE = 0.48  # where the face's middle is in the crop, from the top
CHIN = 0.05  # of the face's height, below a detected box, that the chin takes: before all else
HAIR = 0.62  # of the face's height, above a detected box, that hair takes: room that is given where it is
NEARLY_ALL = 1.2  # a crop that would take this share of the frame takes all of its shorter side
SECOND_FACE = 0.45  # height of another face against the speaker's, to count
CERTAIN = 0.6
UPRIGHT = 0.9  # certainty that upright faces have: with less in most samples, turned ones are looked at
TURN_EVERY, TURN_SAMPLES = 4, 8  # samples that are looked at turned
CHANGE = 64  # pixels: the gray thumbnails that successive frames are compared on
REPEAT = 0.15  # gray levels: two frames closer than this, and than REPEAT_SHARE of the usual, are the same
REPEAT_SHARE = 0.15
CHUNK = 240  # frames that a pattern of repeats is looked for in; a multiple of most periods


@dataclass(frozen=True)
class Crop:
    """A square of the upright source frame, in its pixels: corner and side."""

    x: int
    y: int
    side: int

    def cut(self, frame: np.ndarray, size: int) -> np.ndarray:
        """The square of `frame`, scaled to `size`; uint8 [size, size, 3]."""
        import cv2

        part = frame[self.y : self.y + self.side, self.x : self.x + self.side]
        if self.side == size:
            return np.ascontiguousarray(part)
        how = cv2.INTER_AREA if self.side > size else cv2.INTER_CUBIC
        return cv2.resize(part, (size, size), interpolation=how)


@dataclass(frozen=True)
class Survey:
    """What a first look at the whole video found.

    Args:
        boxes: float32 [F, 6]: sample index, x, y, width, height (pixels of the upright frame), certainty.
        samples: how many frames were searched.
        times: float64 [N], seconds of every decoded frame.
        changes: float32 [N], mean absolute difference to the frame before, in gray levels; 255 for the first.
        view: what of each frame is the film; boxes are in its pixels.
        inset: whether what is left out of it shows more than bars.
        combed: share of the searched frames with a face that look woven of two moments.
    """

    boxes: np.ndarray
    samples: int
    times: np.ndarray
    changes: np.ndarray
    view: View = field(default_factory=View)
    inset: bool = False
    combed: float = 0.0


def survey(path: Path, info: VideoInfo) -> Survey:
    """Looks for faces in two frames a second, and at how much each frame differs from the one before.

    A video on its side is turned and looked at once more; bars and what surrounds an inset are left out.
    """
    found, turns, borders = _survey(path, info, View())
    if turns:
        found, _, borders = _survey(path, info, View(turns))
    unit = max(1.0, max(info.width, info.height) / LOOK_AT)
    film = borders.bars()
    if film == (0, 0, *borders.size):
        film = borders.filled() or film
    speaker, _ = main_faces(found.boxes)
    inset = None
    if len(speaker):
        inset = borders.inset(np.median(speaker[:, 1:5], axis=0) / unit, film)
    left, top, right, bottom = inset or film
    whole = found.view.seen(info)
    if (right - left) * unit >= whole.width - 1 and (bottom - top) * unit >= whole.height - 1:
        return found
    # One pixel of the samples, and what the codec mixed, beside each border that is cut off.
    x, y = (round((value + TRIM if value else 0) * unit) for value in (left, top))
    right, bottom = (
        value if value == edge else value - TRIM
        for value, edge in zip((right, bottom), borders.size, strict=True)
    )
    width, height = min(whole.width, round(right * unit)) - x, min(whole.height, round(bottom * unit)) - y
    boxes: np.ndarray = found.boxes - np.array([0, x, y, 0, 0, 0], np.float32)
    middle = boxes[:, 1:3] + boxes[:, 3:5] / 2
    kept = ((middle >= 0) & (middle < np.array([width, height]))).all(1)
    view = View(found.view.turns, x, y, width, height)
    return replace(found, boxes=boxes[kept], view=view, inset=inset is not None)


def _survey(path: Path, info: VideoInfo, view: View) -> tuple[Survey, int, Borders]:
    """What is found in one view, by how many quarter turns it should be turned first, and its borders."""
    import cv2

    boxes: list[tuple[float, ...]] = []
    times: list[float] = []
    changes: list[float] = []
    borders, some = Borders(), list[np.ndarray]()
    seen = view.seen(info)
    scale = min(1.0, LOOK_AT / max(seen.width, seen.height))
    samples, shown, combed, last = 0, 0, 0, np.full((CHANGE, CHANGE), 255, np.int16)
    # The far model first: it also finds small heads; the near one knows faces that fill the frame.
    models = [FaceDetector("far"), FaceDetector("near")]
    with Bar("looking for the head", info.frames, "frame") as bar:
        for shot in decode(path):
            gray = shot.gray(CHANGE).astype(np.int16)
            changes.append(float(np.abs(gray - last).mean()) if times else 255.0)
            times.append(shot.time)
            last = gray
            bar.step()
            if shot.time < samples / SAMPLES_PER_SECOND:
                continue
            frame = view.of(shot.picture())
            if scale < 1:
                frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            unit = seen.width / frame.shape[1]
            here = _search(frame, models)
            boxes += [(samples, *(unit * v for v in box[:4]), box[4]) for box in here]
            borders.add(frame)
            if here:  # noise that shows nothing looks combed
                shown, combed = shown + 1, combed + shot.combed()
            if samples % TURN_EVERY == 0 and len(some) < TURN_SAMPLES:
                some.append(frame)
            samples += 1
        turns = 0
        certain = np.array([box[5] for box in boxes]) > UPRIGHT
        if view == View() and certain.sum() < samples / 2:
            turns = better_turn(some, lambda frame: _certainty(frame, models))
    found = Survey(
        np.array(boxes, np.float32).reshape(-1, 6), samples, np.array(times), np.array(changes, np.float32),
        view, combed=combed / shown if shown >= FEWEST_SHOWN else 0.0,
    )  # fmt: skip
    return found, turns, borders


def _certainty(frame: np.ndarray, models: list[FaceDetector]) -> tuple[float, float]:
    """How certain a face is in a frame, and its roll in degrees by the eyes; zeros where there is none."""
    faces = _faces(frame, models)
    if not faces:
        return 0.0, 0.0
    best = max((face for _, _, face in faces), key=lambda face: face.score)
    across = best.points[1] - best.points[0]
    return best.score, float(np.degrees(np.arctan2(across[1], across[0])))


def _search(frame: np.ndarray, models: list[FaceDetector]) -> list[tuple[float, ...]]:
    """Faces (x, y, width, height, certainty) in pixels of `frame`."""
    kept = []
    for left, top, face in _faces(frame, models):
        x, y, wide, high = map(float, face.box)
        kept.append((left + x, top + y, wide, high, face.score))
    best: list[tuple[float, ...]] = []
    for one in sorted(kept, key=lambda b: -b[4]):
        if all(_overlap(one, other) < 0.3 for other in best):
            best.append(one)
    return best


def _faces(frame: np.ndarray, models: list[FaceDetector]) -> list[tuple[int, int, Detection]]:
    """Faces, one several times perhaps, and the corners (left, top) of the parts that they were found in.

    The detectors look at a small copy, in which the faces of a wide picture are too small: so squares of it
    are searched as well, and smaller ones while nothing is found.
    """
    height, width = frame.shape[:2]
    side = min(height, width)
    kept: list[tuple[int, int, Detection]] = []
    for size, step in ((max(height, width), side), (side, side // 2), (side // 2, side // 4)):
        for top in range(0, max(height - size, 0) + 1, max(step, 1)):
            for left in range(0, max(width - size, 0) + 1, max(step, 1)):
                view = np.ascontiguousarray(frame[top : top + size, left : left + size])
                for model in models:
                    found = model(view)
                    kept += [(left, top, face) for face in found]
                    if found:
                        break
        if kept and size <= side:
            break
    return kept


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Shared area over the smaller box's."""
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(wide, 0) * max(high, 0) / max(min(a[2] * a[3], b[2] * b[3]), 1e-6)


def even_clock(times: np.ndarray, changes: np.ndarray, fps: float = FPS) -> tuple[np.ndarray | None, float]:
    """A clock without repeated frames, for footage that was stretched to a higher rate by repeating.

    Footage of 25 frames a second in a file of 30 shows every sixth frame twice: sampled by its timestamps
    it would stutter, losing a frame for each one repeated. Where repeats come regularly, they are dropped
    and the rest spread evenly.

    Returns:
        clock: seconds of every decoded frame, NaN for repeats; None where nothing regular is repeated.
        share: of repeated frames.
    """
    moving = np.median(changes[1:]) if len(changes) > 1 else 0.0
    repeated = changes < min(REPEAT, REPEAT_SHARE * moving)
    found = [_cadence(repeated[k : k + CHUNK]) for k in range(0, len(repeated) - CHUNK // 2, CHUNK)]
    periods = [len(pattern) for pattern in found if pattern is not None]
    if not periods or len(periods) < 0.8 * len(found):
        return None, 0.0  # pauses in the movement, not a cadence
    usual = next(p for p in found if p is not None and len(p) == max(set(periods), key=periods.count))
    drop = np.zeros(len(repeated), bool)
    for chunk in range(0, len(repeated), CHUNK):
        here = found[chunk // CHUNK] if chunk // CHUNK < len(found) else None
        usual = here if here is not None else usual
        length = min(CHUNK, len(repeated) - chunk)
        drop[chunk : chunk + length] = np.resize(usual, length)
    drop[0] = False
    ordinal = np.cumsum(~drop) - 1.0
    slope = float(np.polyfit(times, ordinal, 1)[0])
    rate = fps if abs(slope - fps) < 0.005 * fps else slope
    return np.where(drop, np.nan, ordinal / rate), float(drop.mean())


def _cadence(repeated: np.ndarray) -> np.ndarray | None:
    """One period (bool, 2 to 12 frames long) of a regular pattern of repeats; None where there is none."""
    for period in range(2, 13):
        rows = repeated[: len(repeated) // period * period].reshape(-1, period).mean(0)
        always = rows > 0.9
        if always.any() and not always.all() and (rows[~always] < 0.3).all():
            return always
    return None


def main_faces(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separates the speaker from others.

    Returns:
        speaker: [F', 6], one box a sample: the one nearest to the usual place of the largest face.
        others: bool [F'], whether they show another face of a comparable size.
    """
    if not len(boxes):
        return boxes, np.zeros(0, bool)
    samples = np.unique(boxes[:, 0])
    largest = np.stack([max((b for b in boxes if b[0] == s), key=lambda b: b[4] * b[5]) for s in samples])
    centre = np.median(largest[:, 1:3] + largest[:, 3:5] / 2, axis=0)
    height = float(np.median(largest[:, 4]))
    speaker, crowded = [], []
    for s in samples:
        here = boxes[boxes[:, 0] == s]
        far = np.linalg.norm(here[:, 1:3] + here[:, 3:5] / 2 - centre, axis=1) / height
        one = here[np.argmin(far - here[:, 4] / height)]
        speaker.append(one)
        others = (here[:, 4] > SECOND_FACE * one[4]) & (here[:, 5] > CERTAIN)
        crowded.append(bool(others.sum() > 1))
    return np.stack(speaker), np.array(crowded)


def choose_crop(speaker: np.ndarray, info: VideoInfo, margin: float) -> Crop:
    """The square that holds the head at all its places, and shoulders below it.

    Args:
        speaker: [F, 6] boxes of `main_faces`, at least one.
        info: of the video.
        margin: side as a multiple of the face's height.
    """
    low, high = np.percentile(speaker[:, 1:3], [2, 98], axis=0)
    box = np.median(speaker[:, 3:5], axis=0)
    face = float(box[1]) * MESH_TO_BOX
    travel = float((high - low).max())
    side = margin * face + travel
    shorter = min(info.width, info.height)
    side = shorter if side * NEARLY_ALL > shorter else round(side)
    middle = (low + high) / 2 + box / 2
    middle[1] -= 0.05 * face  # a detected box begins at the brows
    x = np.clip(round(float(middle[0]) - side / 2), 0, info.width - side)
    above = min(float(middle[1]) - FACE_CENTRE * side, float(low[1]) - HAIR * face)
    above = max(above, float(high[1] + box[1]) + CHIN * face - side)  # no mouth, no avatar
    y = np.clip(round(above), 0, info.height - side)
    return Crop(int(x), int(y), int(side))
