"""The most informative stretch of a video: which few seconds to train on, where that is all there is to be.

A stretch is better the nearer each frame of the video has a frame in it that looks alike, in the mouth's
shape and in the head's pose. Training chooses among the frames of its own part, and reads nothing of held-out
ones; preparing chooses among those of a whole file.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.face_mesh import CHIN, LIPS
from nldf_engine.geometry.landmark_tracks import on_planes
from nldf_engine.geometry.rotations import head_numbers

# Seconds between the beginnings of the stretches that are compared.
EVERY = 0.4
# Frames that stand for the training part, and frames of stretches that they are compared with.
MOST_FRAMES, MOST_OTHERS = 1500, 6000
# Metres along the head's z axis where lips are on the average.
LIP_DEPTH = -0.05
# Two frames look alike in what is nearer than this share of its spread over the training part.
ALIKE = 0.5


@dataclass(frozen=True)
class Stretch:
    """Some consecutive frames of a video.

    Args:
        first, last: frame numbers, [first, last).
        mouth: share of the frames that it is chosen from to whose mouth one in the stretch is alike.
        pose: the same of the head's pose.
    """

    first: int
    last: int
    mouth: float
    pose: float

    def __str__(self) -> str:
        return (
            f"{self.first / FPS:.1f} s to {self.last / FPS:.1f} s, alike to {self.mouth:.0%} of the training "
            f"part in the mouth and to {self.pose:.0%} in the pose"
        )


class Coverage:
    """How well stretches cover the frames that they are chosen from.

    Args:
        features: [N, D] of mouth and [N, D] of pose, see `looks`, for N frames.
        known: int64 [N], rising: the numbers of those frames.
        clean: bool [N], which of them can be learned from to the full; all where None.

    Raises:
        ValueError: fewer than two frames.
    """

    def __init__(self, features: Sequence[Tensor], known: Tensor, clean: Tensor | None = None) -> None:
        if len(known) < 2:
            raise ValueError(f"known: expected two frames or more to choose from, got {len(known)}")
        thin = slice(None, None, -(-len(known) // MOST_OTHERS))
        some = slice(None, None, -(-len(known) // MOST_FRAMES))
        self._others = known[thin]
        self._apart = [torch.cdist(kind[some], kind[thin]) for kind in features]
        self._clean = known if clean is None else known[clean]
        # From one known frame to the next; more where only every n-th was looked at.
        self._step = int((known[1:] - known[:-1]).median())

    def stretches(self, first: int, last: int, length: int) -> tuple[list[Stretch], list[float]]:
        """All stretches of `length` frames, 1 or more, in [first, last), `EVERY` so many seconds; all of it
        where it is no longer. And the cost of each: infinite where it shows no known frame.

        A frame that can't be learned from costs as much as one that is as far from all in the stretch, in
        mouth or pose, as the usual frame is from the mean.
        """
        length = min(length, last - first)
        step = max(1, round(EVERY * FPS))
        found, costs = [], []
        for start in sorted({*range(first, last - length + 1, step), last - length}):
            inside = (self._others >= start) & (self._others < start + length)
            if not bool(inside.any()):
                found.append(Stretch(start, start + length, 0.0, 0.0))
                costs.append(float("inf"))
                continue
            near = [each[:, inside].amin(1) for each in self._apart]
            mouth, pose = (float((each < ALIKE).float().mean()) for each in near)
            clean = int(((self._clean >= start) & (self._clean < start + length)).sum())
            lost = max(0.0, 1 - clean * self._step / length)
            found.append(Stretch(start, start + length, mouth, pose))
            costs.append(sum(float(each.mean()) for each in near) + lost)
        return found, costs


def best_stretch(dataset: Dataset, seconds: float) -> Stretch:
    """The stretch of so many seconds that covers the training part best; all of it where it is no longer.

    Args:
        dataset: at 25 frames a second.
        seconds: more than 0.

    Raises:
        FileProblem: the training part has fewer than two frames with a face.
        ValueError: seconds that are no positive number.
    """
    if not 0 < seconds < float("inf"):
        raise ValueError(f"seconds: expected more than 0, got {seconds}")
    begin, end = dataset.info.splits["train"]
    known = torch.from_numpy(dataset.indices("train"))
    if len(known) < 2:
        raise FileProblem(
            Path(dataset.path), f"its training part shows a face in {len(known)} frames, too few to train on",
            "prepare a longer video in which the face is seen",
        )  # fmt: skip
    landmarks, poses = (torch.from_numpy(x)[known] for x in (dataset.landmarks, dataset.poses))
    features = looks(landmarks, poses, dataset.camera)
    found, costs = Coverage(features, known).stretches(begin, end, max(1, round(seconds * FPS)))
    return found[costs.index(min(costs))]


def limited(dataset: Dataset, stretch: Stretch) -> Dataset:
    """The dataset with the stretch for its training part; the held-out part stays. Files are shared."""
    made = copy.copy(dataset)
    splits = {**dataset.info.splits, "train": [stretch.first, stretch.last]}
    made.info = dataclasses.replace(dataset.info, splits=splits)
    return made


def looks(landmarks: Tensor, poses: Tensor, camera: Camera) -> list[Tensor]:
    """[N, D] each, of mouth and pose; a distance of 1 is the usual one from the mean.

    Args:
        landmarks: [N, 478, 2+] pixels of `camera`; poses: [N, 4, 4] camera to head.
    """
    poses = poses.float()
    points = landmarks.float()[:, list(LIPS + CHIN), :2]
    placed = on_planes(points, poses, camera, torch.full((points.shape[1],), LIP_DEPTH))
    # A mouth that moves with the head's place is what tracking left: its shape is what counts.
    mouth = (placed - placed.mean(1, keepdim=True)).flatten(1).double().nan_to_num(0)
    pose = head_numbers(poses).double()
    pose = (pose - pose.mean(0)) / pose.std(0).clamp_min(1e-6)
    return [_scaled(mouth), _scaled(pose)]


def _scaled(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    spread = centred.square().sum(1).mean().sqrt().clamp_min(1e-9)
    return (centred / spread).float()
