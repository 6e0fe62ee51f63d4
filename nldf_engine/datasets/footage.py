"""The video that a dataset was prepared from, as footage that a head can be pasted into."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import sha256
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.media.video import frames_at, probe
from nldf_engine.rendering.footage import Footage

# Frames that are compared, and the correlation below which they are not the same.
COMPARED, ALIKE, SIDE = (0, 40, 120), 0.97, 48
TAKE_IT = "name the very file that the dataset was prepared from: nldf prepare VIDEO -o DATASET"


def footage_of(dataset: Dataset, video: str | Path) -> Footage:
    """What `Engine.render(into=...)` takes.

    Args:
        dataset: made by `nldf prepare`.
        video: the file that it was prepared from.

    Raises:
        FileProblem: the file is another one, or was turned, held still or thinned out in preparing, so that
            its frames are not those of the dataset.
    """
    video, source = Path(video), dataset.info.source
    crop = source.get("crop")
    if not (isinstance(crop, list) and len(crop) == 3) or source.get("turned", 0):
        raise FileProblem(
            dataset.path, "it does not say where in its video it was cut out",
            "prepare the video again; turn one that lies on its side first: ffmpeg -i IN -vf transpose OUT",
        )  # fmt: skip
    torso = dataset.torso_motion()
    if torso is None:
        raise FileProblem(dataset.path, "its track has no torso motion", "prepare the video again")
    probe(video)
    if (wanted := source.get("sha256")) is not None and wanted != sha256(video):
        raise FileProblem(video, f"it is not the video of {dataset.path}", TAKE_IT)
    x, y, side = (round(value) for value in crop)
    shots, plain = _shots(dataset)
    _compare(dataset, video, x, y, side, plain)
    return Footage(
        video, (x, y, side), dataset.camera, dataset.poses.astype(np.float32),
        dataset.landmarks.astype(np.float32), dataset.eye_openness.astype(np.float32),
        torso, np.asarray(dataset.valid, bool) & plain, shots,
    )  # fmt: skip


def _shots(dataset: Dataset) -> tuple[tuple[int, ...], np.ndarray]:
    """Frames that begin a shot, and bool [T], those of shots that were left in the framing they have."""
    begins, place = dataset.extra.get("shots"), dataset.extra.get("shot_place")
    if begins is None or place is None:
        return (), np.ones(len(dataset), bool)
    as_filmed = np.abs(place - np.eye(2, 3)).max((1, 2)) == 0
    number = np.searchsorted(begins, np.arange(len(dataset)), side="right") - 1
    return tuple(begins.tolist()), as_filmed[number]


def _compare(dataset: Dataset, video: Path, x: int, y: int, side: int, plain: np.ndarray) -> None:
    """Checks that some frames of the video, cut out, are those of the dataset."""
    wanted = {int(plain.argmax()) + number for number in COMPARED}
    last = max(number for number in wanted if number < len(dataset))
    pairs = zip(frames_at(video, FPS), dataset.pictures(), strict=False)
    for number, (whole, own) in enumerate(islice(pairs, last + 1)):
        if number not in wanted or not plain[number]:
            continue
        apart = _alike(whole[y : y + side, x : x + side], own)
        if apart < ALIKE:
            what = f"frame {number} of it, cut out at {x}, {y}, is not that of {dataset.path}"
            raise FileProblem(
                video, f"{what} (correlation {apart:.2f})",
                "videos whose camera was held still or whose frames repeat can't be pasted into",
            )  # fmt: skip


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    import cv2

    if not one.size:
        return 0.0
    small = [cv2.resize(x, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for x in (one, other)]
    gray = [x.astype(np.float64).mean(2).ravel() for x in small]
    return float(np.corrcoef(*gray)[0, 1])
