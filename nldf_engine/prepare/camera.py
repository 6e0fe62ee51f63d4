"""The camera's own motion and the exposure's drift, as the backdrop shows them.

A similarity a frame (pan, zoom or push-in, roll) and a gain and offset a colour channel, against one plate of
the backdrop. What the backdrop hardly decides stays near nothing; all is evened over time by what each frame
knows. A backdrop that moves by itself, while the speaker does not go along, is no moving camera.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nldf_engine.base.progress import Bar
from nldf_engine.prepare.align import ALIKE, NOISE, Aligner, Prior, matrices, sample
from nldf_engine.prepare.trajectory import smooth

WORK = 128  # pixels: the side that frames are compared at
PLATE_FRAMES = 60
CLEARANCE = 4  # pixels of WORK around the person that do not count as backdrop
FEWEST = 4  # sightings of a pixel of the plate
SMALLEST = 300  # pixels of backdrop below which nothing is measured
STEP_SPREAD = np.array([2.0, 2.0, 0.01, 0.01])  # x, y in pixels of WORK; scale, turn: change between frames
WHOLE_SPREAD = np.array([30.0, 30.0, 0.2, 0.1])  # from the reference
SECOND_SPREAD = np.array([0.08, 0.08, 6e-4, 6e-4])  # second differences over time
LIGHT_SPREAD = np.array([0.3, 4.0])  # gain, offset in levels: from none
LIGHT_PIXELS = 1500  # that gain and offset are fitted to
LIGHT_SECOND = np.array([0.002, 0.2])
MATCHING = 0.6  # correlation below which a frame shows something else
BRIGHT = 128.0  # the level at which a drift of exposure is given
MOVES = 0.004  # share of the side that a corner moves: below it a camera counts as still
SURE = 3.0  # standard deviations of the track that this takes at least
DRIFTS = 0.012  # relative change of the exposure: below it counts as none
ALONG = 0.4  # how far the head goes along with a camera that moves, at least


@dataclass(frozen=True)
class CameraTrack:
    """How the camera moves, and what the exposure does.

    Args:
        motion: float64 [T, 2, 3]; motion[t] maps (x, y, 1) of the plate to frame t, in units of the
            frame's side.
        light: float64 [T, 3, 2], gain and offset (levels) a channel that bring frame t to the plate's.
        doubt: float64, standard deviation of the corners' places, share of the side.
        match: float64 [T], correlation of the backdrop with the plate.
        along: how far the head follows the camera (1: a camera that moves in front of a still speaker,
            0: the backdrop's own motion); None where the camera hardly moves.
        certain: whether the backdrop shows enough to say anything.
    """

    motion: np.ndarray
    light: np.ndarray
    doubt: float
    match: np.ndarray
    along: float | None
    certain: bool

    @property
    def travel(self) -> float:
        """How far the frame's corners move, 5th to 95th percentile, share of the side."""
        corners = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1.0]]).T
        low, high = np.percentile(self.motion @ corners, [5, 95], axis=0)
        return float((high - low).max())

    @property
    def pan(self) -> float:
        """How far the frame's middle moves, 5th to 95th percentile, share of the side."""
        low, high = np.percentile(self.motion @ np.array([0.5, 0.5, 1.0]), [5, 95], axis=0)
        return float(np.hypot(*(high - low)))

    @property
    def zoom(self) -> float:
        """By what factor the picture of the backdrop grows over the video, less 1."""
        scale = np.hypot(self.motion[:, 0, 0], self.motion[:, 1, 0])
        ends = max(1, len(scale) // 20)
        return float(np.median(scale[-ends:]) / np.median(scale[:ends]) - 1)

    @property
    def brightness(self) -> np.ndarray:
        """[T, 3]: exposure of each frame and channel against the plate's."""
        return BRIGHT / np.maximum(self.light[..., 0] * BRIGHT + self.light[..., 1], 1.0)

    @property
    def drift(self) -> float:
        """Relative range of the exposure, of the channel that changes most."""
        low, high = np.percentile(self.brightness, [5, 95], axis=0)
        return float((high - low).max())

    @property
    def moves(self) -> bool:
        """Whether the camera moves so that it is worth taking out."""
        if not self.certain or self.travel < max(MOVES, SURE * self.doubt):
            return False
        return self.along is None or self.along >= ALONG

    @property
    def backdrop_moves(self) -> bool:
        """Whether the backdrop goes its own way, as one piece."""
        far = self.certain and self.travel >= max(MOVES, SURE * self.doubt)
        return far and self.along is not None and self.along < ALONG

    @property
    def drifts(self) -> bool:
        """Whether the exposure changes so that it is worth taking out."""
        return self.certain and not self.backdrop_moves and self.drift >= DRIFTS

    def metrics(self) -> dict[str, Any]:
        """For the report."""
        return {
            "camera_told": self.certain,
            "camera_travel": round(self.travel, 5),
            "camera_travel_doubt": round(self.doubt, 5),
            "camera_pan": round(self.pan, 5),
            "camera_growth": round(self.zoom, 5),
            "camera_head_along": None if self.along is None else round(self.along, 3),
            "exposure_drift": round(self.drift, 5),
            "camera_compensated": self.moves,
            "backdrop_goes_its_own_way": self.backdrop_moves,
            "exposure_compensated": self.drifts,
        }


def track_camera(
    frames: Iterable[np.ndarray],
    masks: Iterable[np.ndarray],
    faces: np.ndarray,
    known: int,
    valid: np.ndarray | None = None,
) -> CameraTrack:
    """Finds the camera's motion and the exposure.

    Args:
        frames: uint8 [S, S, 3]; masks: soft person masks uint8 [s, s]; both streamed, T of them.
        faces: [T, 3]: the face's middle x, y and the logarithm of its size, in units of the frame's side.
        known: how many frames, from the beginning, the plate may be made of.
        valid: bool [T], frames that show the scene; the others (fades, title cards) decide nothing. All
            where None.
    """
    small, clear = _gather(frames, masks, len(faces))
    total = len(faces)
    valid = np.ones(total, bool) if valid is None else valid
    usable = np.flatnonzero(valid[:known]) if valid[:known].any() else np.arange(min(known, total))
    reference = int(usable[len(usable) // 2])
    still = CameraTrack(
        np.tile(np.eye(2, 3), (total, 1, 1)), np.tile([1.0, 0.0], (total, 3, 1)), 0.0, np.zeros(total),
        None, False,
    )  # fmt: skip
    area = clear[reference] > 0.5
    if area.sum() < SMALLEST:
        return still
    track = _Follower(small, clear, small[reference].astype(np.float32), area, valid)
    with Bar("following the camera", 2 * total, "frame") as bar:
        motion, match, _ = track.in_turn(reference, bar)
        light, _ = track.light(motion)
        plate, area = _plate(small[usable], clear[usable], track.maps(motion)[usable], light[usable])
        if area.sum() < SMALLEST:
            return still
        track = _Follower(small, clear, plate, area, valid, np.array(track.aligner.middle))
        motion, match, information = track.again(motion, bar)
    whole = np.diag(1 / WHOLE_SPREAD**2)
    motion = _held(motion, valid)
    motion = smooth(motion, information + whole, np.diag(1 / SECOND_SPREAD**2))
    motion = _held(motion, valid)
    motion = motion - np.median(motion, axis=0)
    light, light_information = track.light(motion)
    light_information[(match < MATCHING) | ~valid] *= 1e-6
    even = np.diag(1 / LIGHT_SECOND**2)
    light = np.stack([smooth(light[:, c], light_information[:, c], even) for c in range(3)], 1)
    light = _held(light, valid)
    placed = matrices(motion, track.aligner.middle + 0.5, 1.0)
    placed[:, :, 2] /= WORK
    certain = bool(np.median(match[valid]) > MATCHING) if valid.any() else False
    doubt = _doubt(information[valid].mean(0) + whole if valid.any() else whole)
    found = CameraTrack(placed, light, doubt, match, None, certain)
    if found.travel < max(MOVES, SURE * doubt):
        return found
    along = _along(placed, faces)
    return CameraTrack(placed, light, doubt, match, along, certain)


def _held(track: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """A track [T, ...] that goes evenly from each valid frame to the next, and stays in place at the ends."""
    if valid.all() or not valid.any():
        return track
    known, rows = np.flatnonzero(valid), track.reshape(len(track), -1)
    held = [np.interp(np.arange(len(track)), known, row[known]) for row in rows.T]
    return np.stack(held, 1).reshape(track.shape)


def _gather(
    frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], total: int
) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [T, WORK, WORK, 3] and what of them is backdrop, float32 in [0, 1], as uint8 / 255."""
    import cv2

    small = np.empty((total, WORK, WORK, 3), np.uint8)
    clear = np.empty((total, WORK, WORK), np.float16)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * CLEARANCE + 1,) * 2)
    for index, (frame, mask) in enumerate(zip(frames, masks, strict=False)):
        if index >= total:
            break
        tiny = cv2.resize(frame, (WORK, WORK), interpolation=cv2.INTER_AREA)
        small[index] = cv2.GaussianBlur(tiny, (0, 0), 1.0)
        person = cv2.resize(mask, (WORK, WORK), interpolation=cv2.INTER_AREA) > 40
        free = cv2.erode((~person).astype(np.uint8), kernel, borderType=cv2.BORDER_REPLICATE)
        clear[index] = cv2.GaussianBlur(free.astype(np.float32), (0, 0), 1.0)
    return small, clear


class _Follower:
    """Aligns frames with one template of the backdrop, [WORK, WORK, 3], where `area` is true.

    Frames that are not `valid` [T] are aligned as well, and count for nothing.
    """

    def __init__(
        self,
        small: np.ndarray,
        clear: np.ndarray,
        template: np.ndarray,
        area: np.ndarray,
        valid: np.ndarray,
        middle: np.ndarray | None = None,
    ) -> None:
        self.small, self.clear, self.template, self.area = small, clear, template, area
        self.valid = valid
        self.aligner = Aligner(_gray(template), area, middle)
        self.whole = Prior.of(np.zeros(4), WHOLE_SPREAD)

    def in_turn(self, reference: int, bar: Bar) -> tuple[np.ndarray, ...]:
        """Motion [T, 4], match [T] and information [T, 4, 4], each frame begun where its neighbour is."""
        total = len(self.small)
        motion, match, information = np.zeros((total, 4)), np.zeros(total), np.zeros((total, 4, 4))
        for order in (range(reference, total), range(reference - 1, -1, -1)):
            now = np.zeros(4)
            for index in order:
                motion[index], match[index], information[index] = self._one(index, now, STEP_SPREAD)
                now = motion[index] if match[index] > MATCHING and self.valid[index] else now
                bar.step()
        return motion, match, information

    def again(self, motion: np.ndarray, bar: Bar) -> tuple[np.ndarray, ...]:
        """The same, begun at a first guess [T, 4]; frames that do not match know nothing."""
        motion, match = motion.copy(), np.zeros(len(motion))
        information = np.zeros((len(motion), 4, 4))
        for index in range(len(motion)):
            motion[index], match[index], known = self._one(index, motion[index], 10 * STEP_SPREAD)
            seen = match[index] > MATCHING and self.valid[index]
            information[index] = known if seen else 1e-6 * known
            bar.step()
        return motion, match, information

    def _one(self, index: int, start: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        counts = self.clear[index].astype(np.float32)
        priors = [self.whole, Prior.of(start, spread)]
        found = self.aligner.align(_gray(self.small[index].astype(np.float32)), start, priors, counts)
        return found.motion, found.match, found.information

    def maps(self, motion: np.ndarray) -> np.ndarray:
        """[T, 2, 3], pixels of the template (centres at whole numbers) to pixels of the frames."""
        return matrices(motion, self.aligner.middle, 1.0)

    def light(self, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gain and offset [T, 3, 2] that bring frames to the template, and their information [T, 3, 2, 2]."""
        total, every = len(motion), max(1, int(self.area.sum()) // LIGHT_PIXELS)
        goal = self.template[self.area][::every].astype(np.float64)
        light, information = np.zeros((total, 3, 2)), np.zeros((total, 3, 2, 2))
        prior, usual = np.diag(1 / LIGHT_SPREAD**2), np.array([1.0, 0.0])
        for index in range(total):
            x, y = (v[::every] for v in self.aligner.places(motion[index]))
            inside = (x >= 0) & (y >= 0) & (x <= WORK - 1) & (y <= WORK - 1)
            counts = (
                sample(self.clear[index].astype(np.float32), x, y) * inside * (every / (NOISE**2 * ALIKE))
            )
            seen = sample(self.small[index], x, y).astype(np.float64)
            for channel in range(3):
                a, b = np.stack([seen[:, channel], np.ones(len(seen))], 1), goal[:, channel]
                now = usual
                for _ in range(4):
                    off = np.abs(a @ now - b)
                    weight = counts * np.minimum(1.0, 2 * NOISE / np.maximum(off, 1e-3))
                    weight = weight * ((seen[:, channel] < 250) & (seen[:, channel] > 4))
                    system = (a * weight[:, None]).T @ a + prior
                    now = np.linalg.solve(system, (a * weight[:, None]).T @ b + prior @ usual)
                light[index, channel], information[index, channel] = now, system
        return light, information


def _gray(picture: np.ndarray) -> np.ndarray:
    return (picture @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)


def _plate(
    small: np.ndarray, clear: np.ndarray, maps: np.ndarray, light: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The backdrop's median [WORK, WORK, 3] float32 in the reference's place, and where it was seen."""
    import cv2

    chosen = np.unique(np.linspace(0, len(small) - 1, min(PLATE_FRAMES, len(small))).round().astype(int))
    stack = np.full((len(chosen), WORK, WORK, 3), np.nan, np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for row, index in enumerate(chosen):
        picture = small[index].astype(np.float32) * light[index, :, 0] + light[index, :, 1]
        seen = cv2.warpAffine(picture.astype(np.float32), maps[index], (WORK, WORK), flags=flags)
        free = cv2.warpAffine(clear[index].astype(np.float32), maps[index], (WORK, WORK), flags=flags)
        stack[row] = np.where(free[..., None] > 0.9, seen, np.nan)
    count = np.isfinite(stack[..., 0]).sum(0)
    area = count >= min(FEWEST, len(chosen))
    plate = np.zeros((WORK, WORK, 3), np.float32)
    if area.any():
        plate[area] = np.nanmedian(stack[:, area], axis=0)
    # Gradients at the area's edge must not see the hole beside it.
    inner = cv2.erode(area.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE) > 0
    return plate, inner


def _doubt(information: np.ndarray) -> float:
    """Standard deviation of the corners' places, share of the side, of a track with that information a frame.

    Smoothing by second differences averages over some frames, (information / stiffness)^(-1/4) of them.
    """
    stiff = np.diag(1 / SECOND_SPREAD**2)
    covariance = np.linalg.inv(information)
    averaged = np.maximum(1.0, (np.diag(stiff) / np.diag(information)) ** 0.25 * 2)
    covariance = covariance / np.sqrt(np.outer(averaged, averaged))
    half = WORK / 2
    by_motion = np.array([[1, 0, half, -half], [0, 1, half, half]])
    return float(np.sqrt(np.trace(by_motion @ covariance @ by_motion.T))) / WORK


def _along(motion: np.ndarray, faces: np.ndarray) -> float:
    """Slope of the head's motion in the picture on the camera's, pulled to 1 as far as the head sways.

    Args:
        motion: [T, 2, 3] in units of the side; faces: [T, 3] as for `track_camera`.
    """
    spot = np.array([*np.median(faces[:, :2], axis=0), 1.0])
    scale = np.log(np.hypot(motion[:, 0, 0], motion[:, 1, 0]))
    camera = np.concatenate([motion @ spot, scale[:, None]], 1)
    camera = camera - camera.mean(0)
    head = faces - faces.mean(0)
    slope = float((camera * head).sum() / max(float((camera**2).sum()), 1e-12))
    # A head that sways as far as the camera moves says little of it.
    rest = float(((head - slope * camera) ** 2).sum())
    trust = float((camera**2).sum()) / max(rest, 1e-12)
    return (trust * slope + 1.0) / (trust + 1.0)
