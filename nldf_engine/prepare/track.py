"""The one pass over all frames: crop, scale, store, find landmarks and the person, measure the picture."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.progress import Bar
from nldf_engine.datasets.format import LANDMARKS
from nldf_engine.faces import FaceMesh, PersonMask
from nldf_engine.media.video import VideoInfo, VideoWriter, frames_at
from nldf_engine.prepare.config import PrepareConfig
from nldf_engine.prepare.faces import Crop

LOOK = 512  # pixels: what the networks see, whatever the dataset's size
MASK = 256  # pixels: the person network's own resolution
THUMB = 48  # pixels: the thumbnails that cuts and exposure are measured on
AHEAD = 6  # frames in flight between the decoder and the networks


def track(
    path: Path,
    info: VideoInfo,
    crop: Crop,
    config: PrepareConfig,
    folder: Path,
    sound: tuple[np.ndarray, int] | None,
    clock: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Decodes the video once; memory does not grow with its length beyond the results.

    Writes `video.mp4` (the dataset's frames) and `mask.mkv` (soft person masks, gray) into `folder`.

    Args:
        clock: another clock for the decoded frames, see `frames_at`.

    Returns:
        landmarks: float32 [T, 478, 3], x and y in pixels of a 512-pixel frame, z in the same scale
            (relative depth); zeros where there is no face.
        valid: bool [T], whether a face was found.
        thumbs: uint8 [T, 48, 48, 3].
    """
    import cv2

    mesh, person = FaceMesh(), PersonMask()

    def look_for_person(frame: np.ndarray) -> np.ndarray:
        soft = person(frame)
        return (cv2.resize(soft, (MASK, MASK), interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)

    landmarks: list[np.ndarray | None] = []
    thumbs: list[np.ndarray] = []
    waiting: deque[tuple[Future[Any], Future[Any]]] = deque()
    total = max(1, round(info.seconds * config.fps))
    size = config.size
    with (
        ThreadPoolExecutor(1) as face_thread,
        ThreadPoolExecutor(1) as person_thread,
        VideoWriter(folder / "video.mp4", size, size, config.fps, audio=sound, crf=config.crf) as video,
        VideoWriter(folder / "mask.mkv", MASK, MASK, config.fps, codec="ffv1") as masks,
        Bar("tracking the face", total, "frame") as bar,
    ):

        def collect() -> None:
            face, mask = waiting.popleft()
            landmarks.append(face.result())
            masks.write(mask.result())
            bar.step()

        for frame in frames_at(path, config.fps, times=clock):
            picture = crop.cut(frame, size)
            seen = picture if size == LOOK else crop.cut(frame, LOOK)
            waiting.append((face_thread.submit(mesh, seen), person_thread.submit(look_for_person, seen)))
            video.write(picture)
            thumbs.append(cv2.resize(picture, (THUMB, THUMB), interpolation=cv2.INTER_AREA))
            if len(waiting) > AHEAD:
                collect()
        while waiting:
            collect()
    return {**_stacked(landmarks), "thumbs": np.stack(thumbs)}


def _stacked(landmarks: list[np.ndarray | None]) -> dict[str, np.ndarray]:
    """Landmarks [T, 478, 3], zeros where there is no face, and "valid" [T]."""
    zeros = np.zeros((LANDMARKS, 3), np.float32)
    return {
        "landmarks": np.stack([zeros if found is None else found for found in landmarks]),
        "valid": np.array([found is not None for found in landmarks]),
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
