"""The clean background plate: what the camera sees where the person is not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nldf_engine.media.pictures import fill_hidden

FRAMES = 120  # frames that the median is taken over
STRIP = 32  # rows at a time, so that memory stays small
CLEARANCE = 0.025  # of the side: how far from the person a pixel must be to count as background
FEWEST = 5  # sightings below which a pixel counts as never seen
BLOCK = 8  # pixels: the side of what is taken from one frame
# Grey levels, RMS, by which a block may differ from the median and still show the same.
ALIKE = 4.0


def background_plate(
    frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], total: int, valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Of every block, the frame that is nearest to the median of those in which it is clear of the person.

    A median by itself is smoother than any frame, which shows beside a head that is not. Where no frame shows
    a whole block, or none that is like it, the median is what counts; what was never seen is filled in
    smoothly.

    Args:
        frames: uint8 [S, S, 3], streamed.
        masks: soft person masks uint8 [s, s], streamed in step.
        total: how many there are; `FRAMES` of them are used.
        valid: bool [total], frames that show the scene: of the others (fades, title cards) nothing is used.
            All where None, or where there is none.

    Returns:
        plate: uint8 [S, S, 3].
        filled: bool [S, S], where the background was never seen.
    """
    import cv2

    usable = np.arange(total) if valid is None or not valid.any() else np.flatnonzero(valid)
    places = np.linspace(0, len(usable) - 1, min(len(usable), FRAMES)).round().astype(int)
    chosen = set(usable[places].tolist())
    kept, clear = [], []
    for index, (frame, mask) in enumerate(zip(frames, masks, strict=False)):
        if index not in chosen:
            continue
        side = frame.shape[0]
        reach = max(1, round(CLEARANCE * mask.shape[0]))
        person = cv2.dilate((mask > 40).astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
        kept.append(frame)
        clear.append(cv2.resize(person, (side, side), interpolation=cv2.INTER_NEAREST) == 0)
    pictures, seen = np.stack(kept), np.stack(clear)
    count = seen.sum(0)
    plate = np.zeros(pictures.shape[1:], np.uint8)
    for top in range(0, plate.shape[0], STRIP):
        rows = slice(top, top + STRIP)
        # 999 sorts behind every colour; the median of the n clear ones is at (n - 1) / 2.
        values = np.where(seen[:, rows, :, None], pictures[:, rows], np.uint16(999))
        values.sort(axis=0)
        low = np.maximum(count[rows] - 1, 0) // 2
        high = count[rows] // 2
        pair = [np.take_along_axis(values, k[None, ..., None], 0)[0].astype(np.int32) for k in (low, high)]
        plate[rows] = np.minimum((pair[0] + pair[1] + 1) // 2, 255).astype(np.uint8)
    hidden = count < min(FEWEST, len(kept))
    return fill_hidden(_of_frames(plate, pictures, seen), hidden), hidden


def _of_frames(plate: np.ndarray, pictures: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The plate [S, S, 3] with blocks of pictures [N, S, S, 3] where these are `seen` [N, S, S] and alike."""
    made, width = plate.copy(), plate.shape[1]
    for top in range(0, plate.shape[0], BLOCK):
        rows = slice(top, top + BLOCK)
        apart = np.square(pictures[:, rows].astype(np.float32) - plate[rows]).mean(-1)
        apart[~seen[:, rows]] = np.inf
        starts = np.arange(0, width, BLOCK)
        error = np.add.reduceat(apart.sum(1), starts, axis=1)
        pixels = apart.shape[1] * np.diff([*starts, width])
        alike = np.repeat(error.min(0) <= ALIKE**2 * pixels, BLOCK)[:width]
        nearest = np.repeat(error.argmin(0), BLOCK)[:width]
        taken = np.take_along_axis(pictures[:, rows], nearest[None, None, :, None], 0)[0]
        made[rows] = np.where(alike[:, None], taken, plate[rows])
    return made
