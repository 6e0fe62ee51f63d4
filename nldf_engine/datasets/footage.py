"""The video that a dataset was prepared from, as footage that a head can be pasted into."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import sha256
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.media.video import frames_at, probe
from nldf_engine.rendering.footage import Footage, square_places

# Frames that are compared, and the correlation below which they are not the same.
COMPARED, ALIKE, SIDE = (0, 40, 120), 0.97, 48
BLUR = 0.35  # of one of their pixels: the standard deviation that keeps the video from aliasing in them
SLACK = 1e-3  # pixels of the video, for rounding
TAKE_IT = "name the very file that the dataset was prepared from: nldf prepare VIDEO -o DATASET"


def footage_of(dataset: Dataset, video: str | Path) -> Footage:
    """What `Engine.render(into=...)` takes.

    Args:
        dataset: made by `nldf prepare`.
        video: the file that it was prepared from.

    Raises:
        FileProblem: the file is another one, or was thinned out in preparing, so that its frames are not
            those of the dataset.
    """
    video, source = Path(video), dataset.info.source
    crop = source.get("crop")
    if not (isinstance(crop, list) and len(crop) == 3):
        raise FileProblem(
            dataset.path, "it does not say where in its video it was cut out", "prepare the video again"
        )
    torso = dataset.torso_motion()
    if torso is None:
        raise FileProblem(dataset.path, "its track has no torso motion", "prepare the video again")
    probe(video)
    if (wanted := source.get("sha256")) is not None and wanted != sha256(video):
        raise FileProblem(video, f"it is not the video of {dataset.path}", TAKE_IT)
    shots, places = _places(dataset, *map(float, crop))
    turns, first = _turns(source), int(source.get("first_frame", 0))
    _compare(dataset, video, places, turns, first)
    return Footage(
        video, places, dataset.camera, dataset.poses.astype(np.float32),
        dataset.landmarks.astype(np.float32), dataset.eye_openness.astype(np.float32),
        torso, np.asarray(dataset.valid, bool), shots, turns, first,
    )  # fmt: skip


class Filmed:
    """Which pixels of a dataset's frames were filmed; others, beside a shot that shows less, are guessed.

    Args:
        dataset: any.
        width: of the frames that are asked for, pixels.
    """

    def __init__(self, dataset: Dataset, width: int) -> None:
        source, self._width = dataset.info.source, width
        self._places: np.ndarray | None = None
        if {"shot_place", "camera_motion"} & set(dataset.extra) and isinstance(source.get("crop"), list):
            places = _places(dataset, *map(float, source["crop"]))[1]
            size = int(source["width"]), int(source["height"])
            left, top, *size_of_view = source.get("view", [0, 0, *size[:: -1 if _turns(source) % 2 else 1]])
            self._places, self._size = (
                places - [[0, 0, left], [0, 0, top]],
                (size_of_view[0], size_of_view[1]),
            )

    @property
    def everything(self) -> bool:
        """Whether no frame holds a guess."""
        return self._places is None

    def __call__(self, number: int) -> np.ndarray:
        """bool [width, width] of frame `number`; a pixel counts if all of it was filmed."""
        if self._places is None:
            return np.ones((self._width, self._width), bool)
        return filmed_pixels(self._places[number], self._size, self._width)


def _turns(source: dict[str, Any]) -> int:
    """Quarter turns by which a video was turned."""
    return int(source.get("turned", 0)) // 90


def filmed_pixels(place: np.ndarray, size: tuple[int, int], width: int) -> np.ndarray:
    """bool [width, width]: which pixels of a square lie within a video whole.

    Args:
        place: [2, 3], where the square, (0, 0) to (1, 1), is in the video, pixels.
        size: (width, height) of the video, pixels.
        width: pixels of the square.
    """
    seen, ends = np.ones((width, width), bool), np.arange(width + 1.0) / width
    for at, limit in zip(place, size, strict=True):
        where = at[0] * ends + at[1] * ends[:, None] + at[2]
        inside = (where > -SLACK) & (where < limit + SLACK)
        seen &= inside[:-1, :-1] & inside[1:, :-1] & inside[:-1, 1:] & inside[1:, 1:]
    return seen


def _places(dataset: Dataset, x: float, y: float, side: float) -> tuple[tuple[int, ...], np.ndarray]:
    """Frames that begin a shot, and where the dataset's square is in each frame of its video [T, 2, 3].

    Args:
        x, y, side: of the crop, pixels of the common framing.
    """
    whole = _whole(square_places(x, y, side, len(dataset)))
    motion = dataset.extra.get("camera_motion")
    if motion is not None:  # pixels of the dataset to pixels of the crop, at the dataset's size
        whole = whole @ _whole(motion / np.array([1, 1, dataset.camera.width]))
    begins, place = dataset.extra.get("shots"), dataset.extra.get("shot_place")
    if begins is None or place is None:
        return (), whole[:, :2].astype(np.float32)
    number = np.searchsorted(begins, np.arange(len(dataset)), side="right") - 1
    return tuple(begins.tolist()), (_whole(place)[number] @ whole)[:, :2].astype(np.float32)


def _whole(places: np.ndarray) -> np.ndarray:
    """[N, 3, 3] of [N, 2, 3]."""
    last = np.tile([0.0, 0.0, 1.0], (len(places), 1, 1))
    return np.concatenate([places.astype(np.float64), last], 1)


def _compare(dataset: Dataset, video: Path, places: np.ndarray, turns: int, first: int) -> None:
    """Checks that some frames of the video, cut out, are those of the dataset."""
    import cv2

    last = max(number for number in COMPARED if number < len(dataset))
    pairs = zip(frames_at(video, FPS, first=first), dataset.pictures(), strict=False)
    for number, (whole, own) in enumerate(islice(pairs, last + 1)):
        if number not in COMPARED:
            continue
        blur = BLUR * float(np.sqrt(np.linalg.det(places[number, :, :2]))) / SIDE
        frame = cv2.GaussianBlur(np.ascontiguousarray(np.rot90(whole, turns)), (0, 0), blur)
        placed = places[number] / np.array([SIDE, SIDE, 1])
        placed[:, 2] += placed[:, :2] @ [0.5, 0.5] - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(frame, placed, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        apart = _alike(seen, own)
        if apart < ALIKE:
            what = f"frame {first + number} of it, cut out, is not that of {dataset.path}"
            raise FileProblem(
                video, f"{what} (correlation {apart:.2f})",
                "videos whose frames repeat can't be pasted into",
            )  # fmt: skip


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    import cv2

    small = [cv2.resize(x, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for x in (one, other)]
    gray = [x.astype(np.float64).mean(2).ravel() for x in small]
    return float(np.corrcoef(*gray)[0, 1])
