"""Label maps: the person split into head (with hair), neck and torso.

The outline is the segmentation network's, evened over three frames. Inside it, the jaw's landmarks divide
the head from what is below; skin colour under the jaw divides neck from clothes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from nldf_engine.datasets.format import LABELS

# fmt: off
JAW = (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454)
CHEEKS = (50, 280, 205, 425, 117, 346, 151, 9)  # places where skin is bare and well lit
# fmt: on
LOBE = (132, 361)  # height of the ear lobes
NECK_REACH = 0.62  # of the face's height below the chin: no neck further down
NECK_WIDTH = 1.25  # of the jaw's half width: no neck further out
SKIN_DISTANCE = 3.2  # Mahalanobis distance in chroma that still counts as skin
EDGE = 0.3  # of the jaw's half width: how far the neck may continue beside what looks like skin
STEADY = 5  # frames over which the division of neck and torso is evened


class SkinModel:
    """Mean and spread of the speaker's skin in CrCb, from patches on cheeks and brow.

    Args:
        patches: uint8 [N, 3] RGB samples.
    """

    def __init__(self, patches: np.ndarray) -> None:
        import cv2

        tones = cv2.cvtColor(patches[None], cv2.COLOR_RGB2YCrCb)[0].astype(np.float64)
        self.mean = np.median(tones[:, 1:], axis=0)
        spread = np.cov((tones[:, 1:] - self.mean).T) + np.eye(2) * 9.0
        self.inverse = np.linalg.inv(spread)
        self.dark = 0.25 * float(np.median(tones[:, 0]))

    def distance(self, picture: np.ndarray) -> np.ndarray:
        """Mahalanobis distance [H, W] of every pixel of uint8 [H, W, 3]; far for what is too dark."""
        import cv2

        tones = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb).astype(np.float32)
        off = tones[..., 1:] - self.mean.astype(np.float32)
        far = np.sqrt(np.maximum(np.einsum("hwi,ij,hwj->hw", off, self.inverse.astype(np.float32), off), 0))
        return np.where(tones[..., 0] < self.dark, np.float32(9), far)


def skin_samples(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Colours uint8 [N, 3] around the cheek and brow landmarks (pixels of `frame`)."""
    side = frame.shape[0]
    reach = max(1, side // 128)
    rows = []
    for x, y in landmarks[list(CHEEKS), :2].round().astype(int):
        if reach <= x < side - reach and reach <= y < side - reach:
            rows.append(frame[y - reach : y + reach + 1, x - reach : x + reach + 1].reshape(-1, 3))
    return np.concatenate(rows) if rows else np.zeros((0, 3), np.uint8)


def outlines(masks: Iterable[np.ndarray], side: int) -> Iterator[np.ndarray]:
    """Soft masks uint8 [s, s] -> person masks bool [side, side], evened in time, one piece, without holes."""
    import cv2

    def tidy(soft: np.ndarray) -> np.ndarray:
        big = cv2.resize(soft, (side, side), interpolation=cv2.INTER_CUBIC)
        person = (big > 127).astype(np.uint8)
        count, parts, sizes, _ = cv2.connectedComponentsWithStats(person)
        if count > 2:
            person = (parts == 1 + np.argmax(sizes[1:, cv2.CC_STAT_AREA])).astype(np.uint8)
        holes, parts, sizes, _ = cv2.connectedComponentsWithStats(1 - person)
        for k in range(1, holes):
            if sizes[k, cv2.CC_STAT_AREA] < 0.004 * side * side:
                person[parts == k] = 1
        return person.astype(bool)

    window: deque[np.ndarray] = deque(maxlen=3)
    for mask in masks:
        window.append(mask.astype(np.float32))
        if len(window) == 2:
            yield tidy(0.67 * window[0] + 0.33 * window[1])
        elif len(window) == 3:
            yield tidy(0.25 * window[0] + 0.5 * window[1] + 0.25 * window[2])
    if len(window) == 1:
        yield tidy(window[0])
    elif window:
        yield tidy(0.33 * window[-2] + 0.67 * window[-1])


def _upright(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (along the eyes to the right, down the face) of landmarks [478, 2+]."""
    along = points[263, :2] - points[33, :2]
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    return along, np.array([-along[1], along[0]])


def head_region(points: np.ndarray, side: int) -> np.ndarray:
    """bool [side, side]: above the jaw line; beside the jaw, above the lobes of the ears.

    Args:
        points: landmarks [478, 2+] in pixels of the frame.
    """
    import cv2

    along, down = _upright(points)
    jaw = points[list(JAW), :2]
    u, v = jaw @ along, jaw @ down
    lobe = float(np.mean(points[list(LOBE), :2] @ down))
    chin = float(points[152, :2] @ down)
    level = lobe + 0.25 * (chin - lobe)
    order = np.argsort(u)
    u, v = u[order], np.maximum(v[order], level)
    far = 4.0 * side
    outline_u = np.concatenate([[-far, -far], [u[0]], u, [u[-1]], [far, far]])
    outline_v = np.concatenate([[-far, level], [level], v, [level], [level, -far]])
    polygon = outline_u[:, None] * along + outline_v[:, None] * down
    region = np.zeros((side, side), np.uint8)
    cv2.fillPoly(region, [np.round(polygon * 8).astype(np.int32)], (1,), shift=3)
    return region.astype(bool)


def _neck_score(
    frame: np.ndarray, person: np.ndarray, head: np.ndarray, points: np.ndarray, skin: SkinModel
) -> np.ndarray:
    """float32 [side, side] in [0, 1]: how much a pixel below the jaw looks like neck."""
    import cv2

    side = frame.shape[0]
    along, down = _upright(points)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    u = (x + 0.5) * along[0] + (y + 0.5) * along[1]
    v = (x + 0.5) * down[0] + (y + 0.5) * down[1]
    jaw = points[list(JAW), :2] @ along
    middle, half = (jaw.max() + jaw.min()) / 2, (jaw.max() - jaw.min()) / 2
    chin = float(points[152, :2] @ down)
    height = chin - float(points[10, :2] @ down)
    place = (np.abs(u - middle) < NECK_WIDTH * half) & (v < chin + NECK_REACH * height) & person & ~head
    bare = (skin.distance(cv2.GaussianBlur(frame, (0, 0), max(0.8, side / 340))) < SKIN_DISTANCE) & place
    reach = max(1, side // 100)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    bare = cv2.morphologyEx(bare.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    bare = cv2.morphologyEx(bare, cv2.MORPH_CLOSE, np.ones((4 * reach + 1, 4 * reach + 1), np.uint8))
    # Only what touches the jaw: hands and skin-coloured clothes are no neck.
    near = cv2.dilate(head.astype(np.uint8), np.ones((4 * reach + 1, 4 * reach + 1), np.uint8))
    count, parts = cv2.connectedComponents(bare)
    touching = np.zeros(count, bool)
    touching[np.unique(parts[(near > 0) & (bare > 0)])] = True
    touching[0] = False
    # What is between the jaw and bare skin is neck in shadow.
    neck = touching[parts].astype(np.uint8)
    below = (np.maximum.accumulate(neck[::-1], axis=0)[::-1] > 0) & place
    # The neck's edges are often in shadow, or shine: down to where its outermost columns end, they are neck.
    columns = np.flatnonzero(below.any(0))
    if len(columns) < 4:
        return below.astype(np.float32)
    ends = side - np.argmax(below[::-1], axis=0)
    reach = max(2, round(EDGE * float(half)))
    wide = below.copy()
    for edge, inner in ((columns[0], columns[:4]), (columns[-1], columns[-4:])):
        level = int(np.median(ends[inner]))
        strip = slice(max(0, edge - reach), edge + reach)
        wide[:level, strip] |= place[:level, strip]
    return (wide | _between(wide, place)).astype(np.float32)


def _between(neck: np.ndarray, place: np.ndarray) -> np.ndarray:
    """What is in `place` between two pieces of neck in the same row."""
    left = np.maximum.accumulate(neck, axis=1)
    right = np.maximum.accumulate(neck[:, ::-1], axis=1)[:, ::-1]
    return left & right & place


def _seam(head: np.ndarray, neck: np.ndarray) -> np.ndarray:
    """bool [S, S]: what is close to both. The neck, found in smaller pictures, ends short of the jaw."""
    import cv2

    side = 2 * (1 + len(head) // 256) + 1
    kernel = np.ones((side, side), np.uint8)
    near = [np.asarray(cv2.dilate(part.astype(np.uint8), kernel)) > 0 for part in (head, neck)]
    return np.logical_and(*near)


def label_maps(
    frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], landmarks: np.ndarray, skin: SkinModel
) -> Iterator[np.ndarray]:
    """Label maps uint8 [S, S] of `LABELS` values, streamed.

    Args:
        frames: uint8 [S, S, 3]; masks: soft person masks uint8 [s, s], in step.
        landmarks: [T, 478, 2+] in pixels of the frames, gaps filled.
        skin: the speaker's.
    """
    import cv2

    side, half = 0, STEADY // 2
    window: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque(maxlen=STEADY)
    source = iter(frames)
    first = next(source, None)
    if first is None:
        return
    side = first.shape[0]
    work = min(side, 256)

    def joined(at: int) -> np.ndarray:
        person, head, _ = window[at]
        share = np.mean([score for _, _, score in window], axis=0)
        neck = cv2.resize(share, (side, side), interpolation=cv2.INTER_LINEAR) > 0.5
        label = np.where(person, LABELS["torso"], LABELS["background"]).astype(np.uint8)
        label[person & (neck | _seam(head, neck))] = LABELS["neck"]
        label[person & head] = LABELS["head"]
        return label

    count = 0
    for index, (frame, person) in enumerate(zip(_chain(first, source), outlines(masks, side), strict=False)):
        points = landmarks[index]
        head = head_region(points, side)
        small = [
            cv2.resize(a.astype(np.uint8), (work, work), interpolation=cv2.INTER_AREA) for a in (person, head)
        ]
        tiny = cv2.resize(frame, (work, work), interpolation=cv2.INTER_AREA)
        score = _neck_score(tiny, small[0] > 0, small[1] > 0, points * (work / side), skin)
        window.append((person, head, score))
        count += 1
        if count == STEADY:
            for at in range(half + 1):
                yield joined(at)
        elif count > STEADY:
            yield joined(half)
    for at in range(0 if count < STEADY else half + 1, len(window)):
        yield joined(at)


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest
