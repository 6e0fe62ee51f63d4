"""A dataset's frame with what was found in it drawn over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nldf_engine.apps.viewer.compare import at_size
from nldf_engine.apps.viewer.frames import FramesByNumber
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.geometry.face_mesh import BROWS, CHIN, EYE_RIMS, IRISES, LIPS

# One colour a label of the maps, another a part of the face.
LABEL_COLOURS = {"head": (255, 130, 60), "neck": (250, 220, 70), "torso": (70, 150, 255)}
PART_COLOURS = (
    (LIPS, (255, 80, 110)), (EYE_RIMS, (90, 240, 140)), (BROWS, (255, 210, 80)), (IRISES, (90, 220, 255)),
    (CHIN, (200, 160, 255)),
)  # fmt: skip
REST_COLOUR = (210, 210, 210)
INVALID = (230, 40, 40)
FRAME, LABEL_MAP, PLATE = "frame", "label map", "background"
SHOWN = (FRAME, LABEL_MAP, PLATE)
PLOT, WIDE = 120, 4  # pixels that a picture of features is high, and a frame of it wide


@dataclass(frozen=True)
class DatasetState:
    """What one browser sees of a dataset.

    Args:
        frame: its number.
        shown: one of SHOWN.
        labels: how strongly label maps tint the frame, 0 to 1.
        landmarks: draw them.
        cameras: every so many frames has its camera drawn.

    Raises:
        ValueError: an unknown word, or a number out of range.
    """

    frame: int = 0
    shown: str = FRAME
    labels: float = 0.25
    landmarks: bool = True
    cameras: int = 25

    def __post_init__(self) -> None:
        if self.shown not in SHOWN:
            raise ValueError(f"shown: expected one of {', '.join(SHOWN)}, got {self.shown!r}")
        if not 0 <= self.labels <= 1 or self.cameras < 1:
            raise ValueError(f"expected labels of 0 to 1 and at least 1 camera, got {self}")


def tinted(picture: np.ndarray, labels: np.ndarray, share: float) -> np.ndarray:
    """A frame uint8 [H, W, 3] tinted by its label map [H, W]; background stays."""
    made = picture.astype(np.float32)
    for name, colour in LABEL_COLOURS.items():
        where = labels == LABELS[name]
        made[where] = (1 - share) * made[where] + share * np.array(colour, np.float32)
    return made.round().astype(np.uint8)


def with_landmarks(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A frame with its landmarks [478, 2] (pixels) as dots, coloured by parts of the face."""
    import cv2

    made = np.ascontiguousarray(picture).copy()
    colours = dict.fromkeys(range(len(landmarks)), REST_COLOUR)
    for numbers, colour in PART_COLOURS:
        colours.update(dict.fromkeys(numbers, colour))
    height, width = made.shape[:2]
    radius = max(1, round(width / 400))
    for number, colour in colours.items():
        x, y = landmarks[number]
        if not (0 <= x < width and 0 <= y < height):
            continue
        if colour is REST_COLOUR:
            made[int(y), int(x)] = colour
        else:
            cv2.circle(made, (int(x), int(y)), radius, colour, -1, cv2.LINE_AA)
    return made


def framed(picture: np.ndarray, valid: bool) -> np.ndarray:
    """A frame; with a red rim where it is not valid, and no training looks at it."""
    if valid:
        return picture
    made, rim = picture.copy(), max(2, picture.shape[1] // 100)
    made[:rim], made[-rim:], made[:, :rim], made[:, -rim:] = INVALID, INVALID, INVALID, INVALID
    return made


class DatasetPictures:
    """Draws a dataset as states say.

    Args:
        dataset: of any layout.
        frames: its frames, uint8 [H, W, 3].
        labels: its label maps, uint8 [H, W].
    """

    def __init__(self, dataset: Dataset, frames: FramesByNumber, labels: FramesByNumber) -> None:
        self.dataset, self._frames, self._labels = dataset, frames, labels

    def draw(self, state: DatasetState, width: int | None = None) -> np.ndarray:
        """The picture of a state, uint8 [h, w, 3].

        Args:
            state: what is shown.
            width: in pixels, also more than the dataset has; its own where None.

        Raises:
            IndexError: there is no such frame.
            FileProblem: a file is damaged.
        """
        dataset, number = self.dataset, state.frame
        if not 0 <= number < len(dataset):
            raise IndexError(f"frame {number} of a dataset of {len(dataset)} frames")
        own, _ = dataset.info.size
        scale = 1.0 if width is None else width / own
        size = max(1, round(own * scale)), max(1, round(dataset.info.size[1] * scale))
        if state.shown == PLATE:
            return at_size(dataset.background(), *size)
        valid = bool(dataset.valid[number])
        if state.shown == LABEL_MAP:
            labels = self._labels[number]
            grey = np.full((*labels.shape, 3), 40, np.uint8)
            return framed(at_size(tinted(grey, labels, 1.0), *size), valid)
        picture = self._frames[number]
        if state.labels > 0:
            picture = tinted(picture, self._labels[number], state.labels)
        picture = at_size(picture, *size)
        if state.landmarks and valid:
            picture = with_landmarks(picture, dataset.landmarks[number] * scale)
        return framed(picture, valid)


def feature_picture(windows: np.ndarray, frame: int, around: int = 100) -> np.ndarray:
    """Audio features about a frame, uint8 [PLOT, n WIDE, 3]: time to the right, dimensions upwards.

    Args:
        windows: [T, W, D] float32; the middle row of each window is that of its frame.
        frame: whose column is marked.
        around: frames before and after it.
    """
    first, last = max(0, frame - around), min(len(windows), frame + around + 1)
    rows = np.asarray(windows[first:last, windows.shape[1] // 2], np.float64)
    low, high = np.percentile(windows[:: max(1, len(windows) // 500)], [1, 99])
    share = ((rows - low) / max(1e-9, high - low)).clip(0, 1).T[::-1]
    made = np.stack([255 * share**0.8, 255 * share**1.5, 90 + 120 * share], -1).round().astype(np.uint8)
    made = at_size(made, WIDE * made.shape[1], PLOT).copy()
    made[:, WIDE * (frame - first) + 1] = 255
    return made


def validity_strip(dataset: Dataset, width: int = 600, height: int = 12) -> np.ndarray:
    """uint8 [height, width, 3] over the whole video: green where frames are valid and trained on, blue where
    held out, red where not valid."""
    first, last = dataset.info.splits["train"]
    frames = np.arange(width) * len(dataset) // width
    colours = np.where((frames >= first) & (frames < last), 0, 1)
    strip = np.array([(70, 170, 90), (70, 120, 210)], np.uint8)[colours]
    strip[~dataset.valid[frames].astype(bool)] = INVALID
    return np.repeat(strip[None], height, 0)


def summary(dataset: Dataset) -> str:
    """What the dataset is, in Markdown."""
    info = dataset.info
    width, height = info.size
    usable = int(dataset.valid.sum())
    parts = ", ".join(f"{name} {first} to {last - 1}" for name, (first, last) in info.splits.items())
    return (
        f"{len(dataset)} frames of {width} x {height} at {info.fps:g}/s, {usable} valid  \n"
        f"focal length {info.camera.fx:.0f} pixels  \nparts: {parts}"
    )
