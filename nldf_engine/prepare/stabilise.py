"""A video as a camera on a stand with locked exposure would have taken it.

The frames are cut again from the source, so that nothing is encoded twice and what is beyond the crop can
come in; landmarks and masks, found before, are moved along.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.progress import track as track_bar
from nldf_engine.datasets.format import training_frames
from nldf_engine.media.video import VideoInfo, VideoWriter, frames_at, labels_of
from nldf_engine.prepare.camera import CameraTrack, track_camera
from nldf_engine.prepare.config import PrepareConfig
from nldf_engine.prepare.faces import Crop
from nldf_engine.prepare.source import Source
from nldf_engine.prepare.steps import Result, Steps
from nldf_engine.prepare.track import LOOK, MASK, fill_gaps

SMALLEST_WINDOW = 0.8  # of the side: what is kept of the picture at least, at the price of empty borders
EDGE = 0.99  # of the frames that a window is to be filled by
HAIR = 0.15  # of the face's height, above the landmarks, at least
HAIR_SLACK = 0.03  # of the face's height, by which masks are off
MORE_CUT = 0.05  # of the frames, in which a correction may bring the head to the picture's border


@dataclass(frozen=True)
class Stabiliser:
    """How every frame is brought into place.

    Args:
        place: float64 [T, 2, 3], (x, y, 1) of the dataset's frame to the crop of the source, both in units
            of their side.
        light: float64 [T, 3, 2], gain and offset (levels) a channel.
        missing: share of the dataset's pixels that no source pixel fills.
    """

    place: np.ndarray
    light: np.ndarray
    missing: float

    @classmethod
    def of(cls, camera: CameraTrack, info: VideoInfo, crop: Crop, faces: np.ndarray) -> Stabiliser:
        """Chooses the window of the plate that the dataset shows, and what is not worth changing.

        The window is as large as the crop where the source is wide enough, and smaller where it is not,
        so that the frames fill it.

        Args:
            camera: what was found.
            info, crop: of the source.
            faces: [T, 3] as for `track_camera`.
        """
        total = len(camera.motion)
        motion = camera.motion if camera.moves else np.tile(np.eye(2, 3), (total, 1, 1))
        light = camera.light if camera.drifts else np.tile([1.0, 0.0], (total, 3, 1))
        window, missing = (0.0, 0.0, 1.0), 0.0
        if camera.moves:
            window, missing = _window(motion, info, crop, faces[:, :2])
        x, y, side = window
        inner = np.array([[side, 0, x], [0, side, y], [0, 0, 1.0]])
        return cls(motion @ inner, light, missing)

    def cuts_heads(self, landmarks: np.ndarray, valid: np.ndarray, hair: float = HAIR) -> bool:
        """Whether more heads leave the picture at its top or sides than in the crop as it was filmed.

        Args:
            landmarks: [T, N, 2+] of the crop, in units of its side; valid: bool [T].
            hair: of the face's height, above the landmarks.
        """

        def outside(points: np.ndarray) -> float:
            low, high = points[valid, :, :2].min(1), points[valid, :, :2].max(1)
            tall = (high - low)[:, 1]
            away = (low[:, 1] < hair * tall) | (low[:, 0] < 0) | (high[:, 0] > 1)
            return float(away.mean())

        return outside(self.points(landmarks, 1.0)) > outside(landmarks) + MORE_CUT

    def points(self, points: np.ndarray, side: float) -> np.ndarray:
        """Points [T, N, 2+] found in the crop, in pixels at `side`, where the dataset shows them.

        A third coordinate is scaled along.
        """
        inverse = np.linalg.inv(self.place[:, :, :2])
        moved = (points[..., :2] / side - self.place[:, None, :, 2]) @ inverse.transpose(0, 2, 1) * side
        scale = np.sqrt(np.linalg.det(inverse))[:, None, None]
        return np.concatenate([moved, points[..., 2:] * scale], -1).astype(points.dtype)

    def principal_point(self, centre: tuple[float, float], side: float) -> tuple[float, float]:
        """Where the source's middle, `centre` of the crop in pixels at `side`, usually is."""
        spots = self.points(np.tile(np.asarray(centre, np.float64), (len(self.place), 1, 1)), side)
        x, y = np.median(spots[:, 0], axis=0)
        return float(x), float(y)

    def frame(self, frame: np.ndarray, index: int, crop: Crop, size: int) -> np.ndarray:
        """One frame uint8 [size, size, 3], cut from the whole upright source frame."""
        import cv2

        matrix = self.place[index] * crop.side
        matrix = matrix + np.array([[0, 0, crop.x], [0, 0, crop.y]])
        shrink = crop.side * float(np.sqrt(np.linalg.det(self.place[index][:, :2]))) / size
        if shrink > 1.01:  # shrunk by area first: a cubic kernel alone would alias
            wide, high = (max(1, round(n / shrink)) for n in (frame.shape[1], frame.shape[0]))
            scale = np.array([wide / frame.shape[1], high / frame.shape[0]])
            frame = cv2.resize(frame, (wide, high), interpolation=cv2.INTER_AREA)
            matrix = matrix * scale[:, None]
        picture = _warped(frame, matrix, size, cv2.INTER_CUBIC)
        gain, offset = self.light[index, :, 0], self.light[index, :, 1]
        if np.allclose(gain, 1) and np.allclose(offset, 0):
            return picture
        return np.clip(picture * gain + offset + 0.5, 0, 255).astype(np.uint8)

    def mask(self, mask: np.ndarray, index: int) -> np.ndarray:
        """A soft mask uint8 [s, s] of the crop, moved along."""
        import cv2

        return _warped(mask, self.place[index] * len(mask), len(mask), cv2.INTER_LINEAR)


def _warped(picture: np.ndarray, matrix: np.ndarray, size: int, how: int) -> np.ndarray:
    """[size, size, ...]; `matrix` maps the unit square to the picture's pixels, centres at +0.5."""
    import cv2

    matrix = matrix / np.array([size, size, 1.0])
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    flags = how | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _window(
    motion: np.ndarray, info: VideoInfo, crop: Crop, faces: np.ndarray
) -> tuple[tuple[float, float, float], float]:
    """The square (x, y, side) of the plate, in units of the crop's side, and the share that stays empty."""
    low = -np.array([crop.x, crop.y]) / crop.side
    high = low + np.array([info.width, info.height]) / crop.side
    corners = np.array([[low[0], high[0], low[0], high[0]], [low[1], low[1], high[1], high[1]]])
    inverse = np.linalg.inv(motion[:, :, :2])
    seen = inverse @ (corners - motion[:, :, 2:])  # [T, 2, 4]
    left, right = seen[:, 0, [0, 2]].max(1), seen[:, 0, [1, 3]].min(1)
    top, bottom = seen[:, 1, [0, 1]].max(1), seen[:, 1, [2, 3]].min(1)
    begin = np.quantile(np.stack([left, top]), EDGE, axis=1)
    end = np.quantile(np.stack([right, bottom]), 1 - EDGE, axis=1)
    side = float(np.clip((end - begin).min(), SMALLEST_WINDOW, 1.0))
    moved = np.einsum("tij,tj->ti", inverse, faces - motion[:, :, 2])
    corner = np.median(moved, axis=0) - np.median(faces, axis=0) * side
    room = end - side - begin
    corner = np.where(room >= 0, np.clip(corner, begin, begin + np.maximum(room, 0)), begin + room / 2)
    wide = np.clip(np.minimum(right, corner[0] + side) - np.maximum(left, corner[0]), 0, side)
    high_enough = np.clip(np.minimum(bottom, corner[1] + side) - np.maximum(top, corner[1]), 0, side)
    missing = float(1 - (wide * high_enough).mean() / side**2)
    return (float(corner[0]), float(corner[1]), side), missing


def write_stabilised(source: Source, config: PrepareConfig, folder: Path, stabiliser: Stabiliser) -> None:
    """Writes `stable.mp4` and `stable_mask.mkv` into `folder`, from the source and `mask.mkv` there."""
    size, total = config.size, len(stabiliser.place)
    frames: Iterable[np.ndarray] = source.frames(config.fps)
    with VideoWriter(folder / "stable.mp4", size, size, config.fps, crf=config.crf) as video:
        for index, frame in enumerate(track_bar(frames, "holding the camera still", total, "frame")):
            video.write(stabiliser.frame(frame, index, source.crop, size))
    with VideoWriter(folder / "stable_mask.mkv", MASK, MASK, config.fps, codec="ffv1") as out:
        for index, mask in enumerate(labels_of(folder / "mask.mkv")):
            out.write(stabiliser.mask(mask, index))


def hair_of(masks: Iterable[np.ndarray], landmarks: np.ndarray, valid: np.ndarray) -> float:
    """Of the face's height, how far the head usually goes on above the landmarks; at least HAIR.

    Args:
        masks: [s, s] of each frame, where the person is above 127; landmarks, valid: as for `cuts_heads`.
    """
    found = []
    for mask, points, shown in zip(masks, landmarks, valid, strict=True):
        (left, top), (right, bottom) = points[:, :2].min(0), points[:, :2].max(0)
        a, b = (round(float(x) * len(mask)) for x in (0.75 * left + 0.25 * right, 0.25 * left + 0.75 * right))
        rows: np.ndarray = np.flatnonzero((mask[:, max(0, a) : max(0, b)] > 127).any(1))
        if shown and len(rows):
            found.append((top - rows[0] / len(mask)) / (bottom - top))
    return max(HAIR, float(np.median(found)) - HAIR_SLACK) if found else HAIR


@dataclass(frozen=True)
class Steady:
    """Frames, masks and landmarks that the rest of the preparation works on.

    Args:
        camera: what was found of the camera and the exposure.
        stabiliser: what was done about it; None where nothing was, and all files are as they were.
        landmarks: float32 [T, 478, 3], pixels at `track.LOOK`.
        video, mask: names of the files in the steps' folder.
        would_cut: whether nothing was done since it would have cut heads.
    """

    camera: CameraTrack
    stabiliser: Stabiliser | None
    landmarks: np.ndarray
    video: str = "video.mp4"
    mask: str = "mask.mkv"
    would_cut: bool = False

    def metrics(self) -> dict[str, Any]:
        """For the report."""
        missing = 0.0 if self.stabiliser is None else self.stabiliser.missing
        found = {**self.camera.metrics(), "camera_border_missing": round(missing, 5)}
        if self.stabiliser is None:
            found.update(camera_compensated=False, exposure_compensated=False)
        return {**found, "camera_would_cut_head": self.would_cut}

    def tensors(self, size: int) -> dict[str, np.ndarray]:
        """What the dataset's track keeps: how to get back to the frames as they were filmed; may be empty."""
        if self.stabiliser is None:
            return {}
        motion = self.stabiliser.place * np.array([1, 1, size])
        return {
            "camera_motion": motion.astype(np.float32),
            "exposure": self.stabiliser.light.astype(np.float32),
        }


def hold_steady(
    source: Source, config: PrepareConfig, steps: Steps, landmarks: np.ndarray, valid: np.ndarray
) -> Steady:
    """Takes the camera's motion and the exposure's drift out of what `track` has written.

    Args:
        landmarks: float32 [T, 478, 3], pixels at `track.LOOK`.
        valid: bool [T], at least one; what the other frames show decides nothing.
    """
    filled = fill_gaps(landmarks, valid)[..., :2] / LOOK
    size = np.log(np.maximum(filled.std(1).mean(1), 1e-6))
    faces = np.concatenate([filled.mean(1), size[:, None]], 1)

    def follow() -> Result:
        found = track_camera(
            frames_at(steps.path("video.mp4"), fps=None),
            labels_of(steps.path("mask.mkv")),
            faces,
            training_frames(len(valid)),
            valid,
        )
        metrics = {"doubt": found.doubt, "along": found.along, "certain": found.certain}
        return {"motion": found.motion, "light": found.light, "match": found.match}, metrics

    arrays, rest = steps.run("camera", follow)
    camera = CameraTrack(
        arrays["motion"], arrays["light"], rest["doubt"], arrays["match"], rest["along"], rest["certain"]
    )
    if not (camera.moves or camera.drifts):
        return Steady(camera, None, landmarks)
    stabiliser = Stabiliser.of(camera, source.info, source.crop, faces)
    hair = hair_of(labels_of(steps.path("mask.mkv")), landmarks / LOOK, valid)
    if stabiliser.cuts_heads(landmarks / LOOK, valid, hair):
        return Steady(camera, None, landmarks, would_cut=True)

    def write() -> Result:
        write_stabilised(source, config, steps.folder, stabiliser)
        return {}, {}

    steps.run("stabilise", write, ("stable.mp4", "stable_mask.mkv"))
    moved = stabiliser.points(landmarks, LOOK)
    return Steady(camera, stabiliser, moved, "stable.mp4", "stable_mask.mkv")
