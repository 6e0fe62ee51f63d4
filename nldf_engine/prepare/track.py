"""The one pass over all frames: crop, scale, store, find landmarks and the person, measure the picture."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nldf_engine.base.progress import Bar
from nldf_engine.datasets.format import LANDMARKS
from nldf_engine.faces import FaceMesh, HandPoints, PersonMask
from nldf_engine.media.video import VideoWriter
from nldf_engine.prepare.config import PrepareConfig
from nldf_engine.prepare.source import Source
from nldf_engine.prepare.spoilt import HAND_EVERY, look_at_mouth, on_mouth

LOOK = 512  # pixels: what the networks see, whatever the dataset's size
MASK = 256  # pixels: the person network's own resolution
CHANGE = 128  # pixels: what successive frames are compared on
THUMB = 48  # pixels: the thumbnails that cuts and exposure are measured on
NO_COLOURS = np.zeros((2, 2), np.float32)
AHEAD = 6  # frames in flight between the decoder and the networks


class Look(NamedTuple):
    """What is seen of a face in one frame.

    Args:
        points: landmarks [478, 3] in pixels at LOOK; None where there is no face.
        skin, lips: see `spoilt.look_at_mouth`.
        fingers: points of hands on the mouth; -1 where none were looked for.
    """

    points: np.ndarray | None = None
    skin: np.ndarray = NO_COLOURS
    lips: bool = False
    fingers: int = -1


class FaceLook:
    """Landmarks of a face, and what may cover it; called for one frame after the other."""

    def __init__(self) -> None:
        self._mesh, self._hands = FaceMesh(), HandPoints()
        self._count = 0

    def __call__(self, frame: np.ndarray) -> Look:
        """Of a frame [LOOK, LOOK, 3]."""
        points = self._mesh(frame)
        self._count += 1
        if points is None:
            return Look()
        fingers = -1
        if self._count % HAND_EVERY == 1:
            fingers = on_mouth(self._hands(frame).reshape(-1, 2), points)
        return Look(points, *look_at_mouth(frame, points), fingers)


def track(source: Source, config: PrepareConfig, folder: Path) -> dict[str, np.ndarray]:
    """Decodes the video once; memory does not grow with its length beyond the results.

    Writes `video.mp4` (the dataset's frames) and `mask.mkv` (soft person masks, gray) into `folder`.

    Returns:
        landmarks: float32 [T, 478, 3], x and y in pixels of a 512-pixel frame, z in the same scale
            (relative depth); zeros where there is no face.
        valid: bool [T], whether a face was found.
        thumbs: uint8 [T, 48, 48, 3].
        changes: float32 [T], mean absolute difference to the frame before, gray levels; 255 for the first.
        skin: float32 [T, 2, 2] and lips: bool [T], see `spoilt.look_at_mouth`; zeros where there is no face.
        hands: int64 [T], points of hands on the mouth; -1 where none were looked for.
    """
    import cv2

    look_for_face, person = FaceLook(), PersonMask()

    def look_for_person(frame: np.ndarray) -> np.ndarray:
        soft = person(frame)
        return (cv2.resize(soft, (MASK, MASK), interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)

    looks: list[Look] = []
    thumbs: list[np.ndarray] = []
    changes: list[float] = []
    last: np.ndarray | None = None
    waiting: deque[tuple[Future[Any], Future[Any]]] = deque()
    total = max(1, round(source.info.seconds * config.fps))
    size = config.size
    with (
        ThreadPoolExecutor(1) as face_thread,
        ThreadPoolExecutor(1) as person_thread,
        VideoWriter(folder / "video.mp4", size, size, config.fps, crf=config.crf) as video,
        VideoWriter(folder / "mask.mkv", MASK, MASK, config.fps, codec="ffv1") as masks,
        Bar("tracking the face", total, "frame") as bar,
    ):

        def collect() -> None:
            face, mask = waiting.popleft()
            looks.append(face.result())
            masks.write(mask.result())
            bar.step()

        for frame in source.frames(config.fps):
            picture = source.crop.cut(frame, size)
            seen = picture if size == LOOK else source.crop.cut(frame, LOOK)
            waiting.append(
                (face_thread.submit(look_for_face, seen), person_thread.submit(look_for_person, seen))
            )
            video.write(picture)
            thumbs.append(cv2.resize(picture, (THUMB, THUMB), interpolation=cv2.INTER_AREA))
            gray = (
                cv2.resize(seen, (CHANGE, CHANGE), interpolation=cv2.INTER_AREA).astype(np.float32).mean(-1)
            )
            changes.append(255.0 if last is None else float(np.abs(gray - last).mean()))
            last = gray
            if len(waiting) > AHEAD:
                collect()
        while waiting:
            collect()
    return {
        **seen_of(looks),
        "thumbs": np.stack(thumbs),
        "changes": np.array(changes, np.float32),
    }


def seen_of(looks: Sequence[Look]) -> dict[str, np.ndarray]:
    """What was seen in T frames: "landmarks", "valid", "skin", "lips" and "hands" of `track`."""
    zeros = np.zeros((LANDMARKS, 3), np.float32)
    return {
        "landmarks": np.stack([zeros if look.points is None else look.points for look in looks]),
        "valid": np.array([look.points is not None for look in looks]),
        "skin": np.stack([look.skin for look in looks]).astype(np.float32),
        "lips": np.array([look.lips for look in looks]),
        "hands": np.array([look.fingers for look in looks], np.int64),
    }


def fill_gaps(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Frames that are not valid, interpolated from their valid neighbours and held at the ends.

    Args:
        values: [T, ...]; valid: bool [T]. With no valid frame at all, `values` comes back.
    """
    if valid.all() or not valid.any():
        return values
    from scipy.interpolate import interp1d

    known = np.flatnonzero(valid)
    if len(known) == 1:
        return np.broadcast_to(values[known], values.shape).copy()
    inside = np.clip(np.arange(len(values)), known[0], known[-1])
    filled = interp1d(known, values[known], axis=0)(inside).astype(values.dtype)
    filled[valid] = values[valid]
    return filled
