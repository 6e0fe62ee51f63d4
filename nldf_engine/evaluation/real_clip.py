"""The real frames that a renderer is compared with, and the conditions to render them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.evaluation.phones import Phone, read_phones
from nldf_engine.geometry.face_mesh import LANDMARKS

if TYPE_CHECKING:
    from nldf_engine.datasets.dataset import Dataset
    from nldf_engine.geometry.cameras import Camera

SAME_VIEW = 1e-3
"""How far two cameras may differ and still show the same view, as a share of the frame's width."""


@dataclass(frozen=True)
class RealClip:
    """Consecutive real frames with all that a renderer needs to render them again.

    Args:
        frames: makes an iterator over the T real frames, uint8 [H, W, 3].
        labels: [T, H, W] uint8; 0 is background. None where nothing is labelled: regions then follow the
            landmarks that are found in the real frames.
        landmarks: [T, 478, 2] float32, pixels of these frames; None together with `labels`.
        valid: [T] bool; frames that are not valid are rendered, so that time runs on, but not scored.
        features: [T, 16, D] float32.
        poses: [T, 4, 4] float32 camera-to-head.
        eyes: [T] float32.
        samples: [N] float32, the clip's own sound, mono.
        rate: samples a second.
        fps: frames a second.
        start: the index of the first frame in its dataset.
        torso: [T, 2, 3] float32 tracked torso motion in units of the frame's width, or None.
        size: (width, height) of the frames; None takes that of the labels.
        foreign: [T, 16, D] float32, features of somebody else's speech, or None.
        camera: the view, for what needs poses and pixels together; or None.
        identity: a hash of the real frames, so that results on them can be cached; or None.
        phones: what is said when, in seconds from frame 0 of the dataset; or None.

    Raises:
        ValueError: lengths that differ, fewer than two valid frames, or no size.
    """

    frames: Callable[[], Iterator[np.ndarray]]
    labels: np.ndarray | None
    landmarks: np.ndarray | None
    valid: np.ndarray
    features: np.ndarray
    poses: np.ndarray
    eyes: np.ndarray
    samples: np.ndarray
    rate: int = 16000
    fps: float = 25.0
    start: int = 0
    torso: np.ndarray | None = None
    size: tuple[int, int] | None = None
    foreign: np.ndarray | None = None
    camera: Camera | None = None
    identity: str | None = None
    phones: tuple[Phone, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.valid)
        for name in ("labels", "landmarks", "features", "poses", "eyes", "foreign"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise ValueError(
                    f"{name}: expected {count} frames, as many as `valid` has, got {len(values)}"
                )
        if self.labels is None and self.size is None:
            raise ValueError("size: expected a width and height where there are no labels, got None")
        if self.landmarks is not None and self.landmarks.shape[1:] != (LANDMARKS, 2):
            raise ValueError(f"landmarks: expected [{count},{LANDMARKS},2], got {list(self.landmarks.shape)}")
        if int(self.valid.sum()) < 2:
            raise ValueError(
                f"valid: an evaluation needs at least 2 valid frames, got {int(self.valid.sum())}"
            )

    def __len__(self) -> int:
        """The number of frames, the invalid ones included."""
        return len(self.valid)

    def seconds(self, index: np.ndarray) -> np.ndarray:
        """Times of the frames `index` [S] of this clip, in seconds from frame 0 of the dataset."""
        return np.asarray((self.start + index) / self.fps)

    @property
    def width(self) -> int:
        """The frames' width in pixels."""
        return self._shape[1]

    @property
    def height(self) -> int:
        """The frames' height in pixels."""
        return self._shape[0]

    @property
    def _shape(self) -> tuple[int, int]:
        if self.labels is None:
            assert self.size is not None  # __post_init__ checks it
            return self.size[1], self.size[0]
        return int(self.labels.shape[1]), int(self.labels.shape[2])

    def conditions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features, poses and eyes to render with; an invalid frame takes its nearest valid one's pose.

        A frame without a face has no pose of its own, and a renderer refuses NaN.
        """
        known = np.flatnonzero(self.valid)
        here = np.arange(len(self))
        after = np.searchsorted(known, here).clip(0, len(known) - 1)
        before = (after - 1).clip(0)
        nearest = np.where(here - known[before] < known[after] - here, known[before], known[after])
        nearest[self.valid] = known
        return self.features, self.poses[nearest], self.eyes[nearest]

    def shifted_features(self) -> tuple[np.ndarray, int]:
        """The features moved by half the clip, going round, and the number of frames moved by.

        Wrong audio for every frame, yet from the same voice, room and clip.
        """
        shift = len(self) // 2
        return np.roll(self.features, -shift, axis=0), shift


def check_same_view(path: Path, dataset: Camera, avatar: Camera) -> None:
    """Checks that the dataset's camera, scaled to the avatar's size, is the avatar's camera.

    Raises:
        FileProblem: a smaller dataset, another aspect, focal length or principal point: the frames
            would not coincide.
    """
    if avatar.width > dataset.width:
        raise FileProblem(
            path,
            f"its frames are {dataset.width} pixels wide, too few to compare {avatar.width} with",
            f"evaluate at a size of at most {dataset.width} (--size {dataset.width})",
        )
    scaled = dataset.scaled(avatar.width)
    if scaled.height != avatar.height:
        raise FileProblem(
            path,
            f"its frames are {dataset.width}x{dataset.height}, another aspect than the avatar's "
            f"{avatar.width}x{avatar.height}",
            "evaluate with the dataset that the avatar was trained on",
        )
    for name in ("fx", "fy", "cx", "cy"):
        ours, theirs = getattr(scaled, name), getattr(avatar, name)
        if abs(ours - theirs) > SAME_VIEW * avatar.width:
            raise FileProblem(
                path,
                f"its camera's {name} is {ours:.1f} px at {avatar.width} px width, the avatar's {theirs:.1f}",
                "evaluate with the dataset that the avatar was trained on",
            )


def phones_between(path: Path, first: float, last: float) -> tuple[Phone, ...]:
    """The phones of a file that are spoken from `first` to `last`, seconds from the first frame of the video.

    Raises:
        FileProblem: as `read_phones`; or there is none.
    """
    phones = read_phones(path)
    here = tuple(phone for phone in phones if phone.end > first and phone.start <= last)
    if not here:
        raise FileProblem(
            path,
            f"its phones lie from {phones[0].start:g} to {phones[-1].end:g} s, and the evaluated frames from "
            f"{first:g} to {last:g} s",
            "give times in seconds from the first frame of the whole video",
        )
    return here


def real_clip(
    data: Dataset, split: str, frames: int | None, width: int, frontend: Any, foreign: Path | None = None,
    phones: Path | None = None,
) -> RealClip:  # fmt: skip
    """The consecutive frames of a dataset that a split and a number of frames select.

    Args:
        data: the dataset.
        split: its name.
        frames: at most that many valid frames, from the split's start.
        width: the frames' width in pixels.
        frontend: what turns its audio into features.
        foreign: a file of somebody else's speech; it starts again where it is shorter than the clip.
        phones: a table of phones, as `read_phones` reads it.

    What is guessed beside a shot that shows less counts as background: nothing real is there to compare with.

    Raises:
        FileProblem: the split holds fewer than two valid frames, or `phones` can't be used.
    """
    from nldf_engine.audio import SAMPLE_RATE
    from nldf_engine.datasets.footage import Filmed
    from nldf_engine.datasets.format import LABELS

    indices = data.indices(split)[:frames]
    if len(indices) < 2:
        raise FileProblem(
            data.path,
            f"the split {split!r} has {len(indices)} valid frames, and an evaluation needs at least 2",
            "prepare a longer video, or evaluate another split",
        )
    start, stop = int(indices[0]), int(indices[-1]) + 1
    features = data.audio_features(frontend)
    torso = data.torso_motion()
    labels, filmed = data.labels(width)[start:stop], Filmed(data, width)
    if not filmed.everything:
        seen = np.stack([filmed(number) for number in range(start, stop)])
        labels = np.where(seen, labels, np.uint8(LABELS["background"]))
    rate, fps = SAMPLE_RATE, data.info.fps
    return RealClip(
        frames=lambda: data.read_frames(start, stop, width),
        labels=labels,
        landmarks=data.landmarks[start:stop] * np.float32(width / data.camera.width),
        valid=data.valid[start:stop],
        features=features[start:stop],
        poses=data.poses[start:stop],
        eyes=data.eye_openness[start:stop],
        samples=data.audio()[round(start / fps * rate) : round(stop / fps * rate)],
        rate=rate,
        fps=fps,
        start=start,
        torso=None if torso is None else torso[start:stop],
        foreign=None if foreign is None else _foreign_features(foreign, frontend, stop - start),
        camera=data.camera.scaled(width),
        identity=data.hash(),
        phones=None if phones is None else phones_between(phones, start / fps, (stop - 1) / fps),
    )


def _foreign_features(path: Path, frontend: Any, count: int) -> np.ndarray:
    from nldf_engine.audio import FrontendConfig, features, load_audio

    config = FrontendConfig(name=frontend) if isinstance(frontend, str) else frontend
    made = np.asarray(features(load_audio(path), config), np.float32)
    return made[np.arange(count) % len(made)]
