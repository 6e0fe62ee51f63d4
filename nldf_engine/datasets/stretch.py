"""The most informative stretch of a video: which few seconds to train on, where that is all there is to be.

A stretch is better the nearer each frame of the training part has a frame in it that looks alike, in the
mouth's shape and in the head's pose. Nothing is read of held-out frames.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
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
        mouth: share of the training part's frames to whose mouth one in the stretch is alike.
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
    length = min(max(1, round(seconds * FPS)), end - begin)
    starts = sorted({*range(begin, end - length + 1, max(1, round(EVERY * FPS))), end - length})
    some = known[:: -(-len(known) // MOST_FRAMES)]
    others = known[:: -(-len(known) // MOST_OTHERS)]
    features = _features(dataset, known)
    place = torch.full((end,), -1, dtype=torch.long)
    place[known] = torch.arange(len(known))
    apart = [torch.cdist(kind[place[some]], kind[place[others]]) for kind in features]
    best, chosen = float("inf"), starts[0]
    for start in starts:
        inside = (others >= start) & (others < start + length)
        if not bool(inside.any()):
            continue
        cost = sum(float(each[:, inside].amin(1).mean()) for each in apart)
        if cost < best:
            best, chosen = cost, start
    inside = (others >= chosen) & (others < chosen + length)
    mouth, pose = (float((each[:, inside].amin(1) < ALIKE).float().mean()) for each in apart)
    return Stretch(chosen, chosen + length, mouth, pose)


def limited(dataset: Dataset, stretch: Stretch) -> Dataset:
    """The dataset with the stretch for its training part; the held-out part stays. Files are shared."""
    made = copy.copy(dataset)
    splits = {**dataset.info.splits, "train": [stretch.first, stretch.last]}
    made.info = dataclasses.replace(dataset.info, splits=splits)
    return made


def _features(dataset: Dataset, known: Tensor) -> list[Tensor]:
    """[N, D] each, of mouth and pose in the frames `known` [N]; a distance of 1 is the usual one from the
    mean."""
    poses = torch.from_numpy(dataset.poses).float()[known]
    points = torch.from_numpy(dataset.landmarks).float()[known][:, list(LIPS + CHIN)]
    placed = on_planes(points, poses, dataset.camera, torch.full((points.shape[1],), LIP_DEPTH))
    # A mouth that moves with the head's place is what tracking left: its shape is what counts.
    mouth = (placed - placed.mean(1, keepdim=True)).flatten(1).double().nan_to_num(0)
    pose = head_numbers(poses).double()
    pose = (pose - pose.mean(0)) / pose.std(0).clamp_min(1e-6)
    return [_scaled(mouth), _scaled(pose)]


def _scaled(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    spread = centred.square().sum(1).mean().sqrt().clamp_min(1e-9)
    return (centred / spread).float()
