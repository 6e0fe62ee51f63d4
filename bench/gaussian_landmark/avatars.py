"""What a trained avatar's landmarks are, and what they move: distribution, sliders, speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.gaussian_landmark.speech import Options, Row
from nldf_engine.datasets import open_dataset
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, LandmarkEdit
from nldf_engine.engine.profile import WARM_UP
from nldf_engine.evaluation.frame_metrics import image_metrics
from nldf_engine.evaluation.landmark_detector import Detector, FaceMesh, detect
from nldf_engine.evaluation.report.drawing import INK, blank_figure
from nldf_engine.geometry.face_mesh import LEFT_EYE, LOWER_INNER, MARKS_SPEECH, RIGHT_EYE, UPPER_INNER
from nldf_engine.geometry.landmark_tracks import landmark_track, reprojected
from nldf_engine.rendering.layer import View, frame_rays, to_uint8
from nldf_engine.systems.common.torso_unet import UnetTorso
from nldf_engine.systems.gaussian_landmark.driver import lip_opening
from nldf_engine.training.torso import tracked_motion

LIDS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
JAW = (0.0, 1.5, 3.0, 4.5, 6.0)
UPPER_LIDS, LOWER_LIDS = (37, 38, 43, 44), (41, 40, 47, 46)
"""Of the 68, points of the upper lids and those of the lower lids below them."""
FAR = 1.5
"""By how much the control of the distribution exaggerates."""
OUTER, LIGHT = "#5f3dc4", "#f2b705"
SPEED_FRAMES, LANDMARK_SECONDS, RAYS = 25, 20.0, 4096


@dataclass
class Subject:
    """An avatar, and a stretch of its speaker's video that drives it.

    Args:
        avatar, dataset: their folders.
        options: how it is measured; `split` and `frames` say which stretch.
        detector: makes the landmark detector; MediaPipe's where None.

    Raises:
        FileProblem: a folder can't be used.
        ValueError: the avatar is not driven by landmarks, or the split is empty.
    """

    avatar: Path
    dataset: Path
    options: Options
    detector: Callable[[], Detector] | None = None
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine, self.data = Engine.load(self.avatar, self.options.device), open_dataset(self.dataset)
        self.part = self.engine.renderer.landmark_part
        if self.part is None:
            raise ValueError(f"{self.avatar}: it is not driven by landmarks, expected a gaussian-landmark")
        data = self.data
        landmarks, poses = (torch.from_numpy(x).float() for x in (data.landmarks, data.poses))
        self.track = landmark_track(landmarks, poses, data.camera, data.extra.get("shape"))[0]
        self.features = data.audio_features(self.engine.avatar.frontend)

    def split(self, most: int | None = None) -> np.ndarray:
        """[N] numbers of the split's first frames in a row, at most so many."""
        chosen = self.data.indices(self.options.split)
        if not len(chosen):
            raise ValueError(f"split: {self.options.split} of {self.dataset} has no frames")
        every = np.arange(chosen[0], chosen[-1] + 1)
        return every if most is None else every[:most]

    def spoken(self) -> Tensor:
        """[T, 68, 3] landmarks that the avatar makes of the whole sound, under the tracked openness of the
        eyes."""
        return torch.from_numpy(self.engine.landmarks(self.features, self.data.eye_openness))

    def render(self, numbers: np.ndarray, edit: LandmarkEdit | None = None) -> np.ndarray:
        """Frames [N, H, W, 3] uint8 of the tracked landmarks under an edit."""
        clip = self.engine.render(
            self.features[numbers], self.data.poses[numbers], landmarks=self.track[numbers].numpy(),
            eyes=self.data.eye_openness[numbers], edit=None if edit is None else Edit(landmarks=edit),
        )  # fmt: skip
        return np.asarray(clip.frames[:])


def distribution(subject: Subject) -> dict[str, Row]:
    """Whether landmarks made of unseen speech lie among those of the training frames.

    For the 37 points that follow speech, millimetres from each frame to the nearest training frame (RMS over
    the points): of real frames of the split, of the avatar's, and as a control of the avatar's moved further
    from the mean. `beyond` is the share that is farther from it than 95 % of the real ones.
    """
    known, sets = _sets(subject)
    limit = float(np.quantile(_nearest(sets["real"], known), 0.95))
    found = {}
    for name, points in sets.items():
        apart = _nearest(points, known)
        found[name] = {
            "median": float(np.median(apart)), "mean": float(apart.mean()),
            "p95": float(np.quantile(apart, 0.95)), "beyond": float((apart > limit).mean()),
        }  # fmt: skip
    return found


def _sets(subject: Subject) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Landmarks [N, 111] of training frames, millimetres, and those of the split by their row's name."""
    speech, numbers = list(MARKS_SPEECH), subject.split()
    usual = subject.part.usual[speech].cpu()
    made = subject.spoken()[numbers][:, speech]
    tracked = subject.track[:, speech]
    sets = {
        "real": tracked[numbers],
        "predicted": made,
        f"predicted, {FAR:g} times": usual + FAR * (made - usual),
    }
    flat = {name: 1e3 * points.flatten(1).double().numpy() for name, points in sets.items()}
    # Validation frames are part of the training ones: they are compared with the others.
    known = subject.data.indices("fit" if subject.options.split == "validation" else "train")
    return 1e3 * tracked[known].flatten(1).double().numpy(), flat


def _nearest(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[N] RMS distance over points to the nearest of the known rows."""
    square = np.square(points).sum(1)[:, None] + np.square(known).sum(1) - 2 * points @ known.T
    return np.asarray(np.sqrt(np.maximum(square.min(1), 0) / (points.shape[1] / 3)))


def distribution_picture(subject: Subject) -> np.ndarray:
    """[H, W, 3] uint8: the first two principal components of the training frames' landmarks, in them the
    split's real frames and those made of its speech; the paper's figure 6."""
    known, sets = _sets(subject)
    mean = known.mean(0)
    axes = np.linalg.svd(known - mean, full_matrices=False)[2][:2].T
    figure = blank_figure(8.0, 4.0)
    for place, name in enumerate(("real", "predicted"), 1):
        panel = figure.add_subplot(1, 2, place)
        for points, colour, label, size in (
            (known, OUTER, "training frames", 5), (sets[name], LIGHT, f"unseen speech, {name}", 7),
        ):  # fmt: skip
            at = (points - mean) @ axes
            panel.scatter(at[:, 0], at[:, 1], s=size, color=colour, label=label, linewidths=0)
        panel.set_xlabel("first component, mm", color=INK)
        panel.set_ylabel("second component, mm", color=INK)
        panel.legend(fontsize=7, loc="upper right")
    figure.tight_layout()
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]


def sliders(subject: Subject) -> dict[str, Row]:
    """What the sliders of lids and jaw move: landmarks (millimetres) and rendered pixels, step by step.

    Pixels: the gap that a landmark detector finds in the rendered frames, in shares of the eye's width for
    lids and of the picture's height for lips. Each column rises from row to row, or `rises` says 0.
    """
    numbers = subject.split(subject.options.frames)
    found: dict[str, Row] = {}
    for name, values, of_marks, of_frame in (
        ("lids", LIDS, _lid_gap, _seen_lids), ("jaw", JAW, _lip_gap, _seen_lips),
    ):  # fmt: skip
        rows: list[Row] = []
        for value in values:
            edit = LandmarkEdit(**{name: value}, limit="off")  # type: ignore[arg-type]
            moved = edit(subject.track[numbers], subject.part.usual.cpu())
            frames = subject.render(numbers, edit)
            seen = detect(frames, (subject.detector or FaceMesh)())[0]
            rows.append({"landmarks_mm": 1e3 * of_marks(moved), "seen": of_frame(seen / frames.shape[1])})
        found |= {f"{name} {value:g}": row for value, row in zip(values, rows, strict=True)}
        found[f"{name} rises"] = {
            column: float(all(b[column] > a[column] for a, b in pairwise(rows)))
            for column in rows[0]
        }  # fmt: skip
    return found


def _lid_gap(marks: Tensor) -> float:
    """Metres between the lids of landmarks [T, 68, 3], mean."""
    return float((marks[:, list(LOWER_LIDS), 1] - marks[:, list(UPPER_LIDS), 1]).mean())


def _lip_gap(marks: Tensor) -> float:
    """Metres between the inner lips of landmarks [T, 68, 3], mean."""
    return float(lip_opening(marks).mean())


def _seen_lids(seen: np.ndarray) -> float:
    """Mean gap between the lids over the eye's width, of landmarks [T, 478, 2] of any unit."""
    gaps = []
    for outer, inner, upper, lower in (RIGHT_EYE, LEFT_EYE):
        width = np.linalg.norm(seen[:, inner] - seen[:, outer], axis=1)
        gaps.append(np.linalg.norm(seen[:, lower] - seen[:, upper], axis=1) / width)
    return float(np.nanmean(gaps))


def _seen_lips(seen: np.ndarray) -> float:
    """Mean gap between the inner lips of landmarks [T, 478, 2]."""
    return float(np.nanmean(np.linalg.norm(seen[:, LOWER_INNER] - seen[:, UPPER_INNER], axis=1)))


@torch.no_grad()
def torso(subject: Subject) -> dict[str, Row]:
    """PSNR at the neck and of the whole frame: the head alone, before the plate, and completed by the U-Net.

    Heads are those of the tracked landmarks, in evenly spread frames of the split, over the video's
    background.

    Raises:
        ValueError: the avatar's torso is no U-Net.
    """
    portrait, data, avatar = subject.engine.renderer.portrait, subject.data, subject.engine.avatar
    if not isinstance(portrait.torso, UnetTorso):
        raise ValueError(f"{subject.avatar}: its torso is no U-Net, expected one of --set torso=unet")
    camera, device = avatar.camera, subject.engine.device
    numbers = data.indices(subject.options.split)
    numbers = numbers[np.linspace(0, len(numbers) - 1, min(subject.options.frames, len(numbers))).astype(int)]
    motions, background = tracked_motion(data), portrait.torso.background
    frames, labels = data.frames(camera.width), data.labels(camera.width)
    marks = data.landmarks * (camera.width / data.camera.width)
    rows: dict[str, list[Row]] = {}
    for number in np.unique(numbers).tolist():
        code = subject.track[number].flatten().to(device)
        pose = torch.from_numpy(data.poses[number]).float().to(device)
        view = View(camera, pose, motions[number].to(device))
        head = portrait.head.draw(view, code)
        layers = {
            "head alone": head,
            "before the plate": portrait.torso.begun(view, code, head),
            "completed": portrait.torso.with_head(view, code, portrait.head),
        }
        for name, layer in layers.items():
            made = to_uint8(layer.over(background)).cpu().numpy()
            scores = image_metrics(made, frames[number], labels[number], marks[number])
            rows.setdefault(name, []).append({key: scores[key] for key in ("psnr", "psnr_neck", "ssim_neck")})
    return {
        name: {key: float(np.nanmean([row[key] for row in of])) for key in of[0]} for name, of in rows.items()
    }


def speed(subject: Subject) -> dict[str, Any]:
    """Frames a second of the whole system and of its stages, the cost of a ray, and streams against clips."""
    engine, numbers = subject.engine, subject.split()
    rate = 16_000
    first = round(numbers[0] / subject.data.info.fps * rate)
    sound = np.asarray(subject.data.audio())[first : first + 3 * rate]
    frames = min(SPEED_FRAMES, len(numbers) - WARM_UP)
    profile = engine.profile((sound, rate), frames=frames)
    camera = engine.avatar.camera
    found: dict[str, Any] = {
        "picture": f"{camera.width} x {camera.height}",
        "frames_s": 1 / float(np.mean(profile.total)),
        "landmark_frames_s": _landmark_rate(subject), **_ray_cost(subject, int(numbers[0])),
    }  # fmt: skip
    found |= {f"ms_{name}": 1e3 * float(np.mean(times)) for name, times in profile.stages.items()}
    short = sound[:rate]
    streamed = np.stack(list(engine.stream(iter(np.array_split(short, 7)))))
    found["stream_equals_clip"] = bool(np.array_equal(streamed, engine.render((short, rate)).frames[:]))
    return found


def _landmark_rate(subject: Subject) -> float:
    """Frames a second of stage 1, from features to landmarks."""
    windows = subject.features[: round(LANDMARK_SECONDS * subject.data.info.fps)]
    began = time.perf_counter()
    subject.engine.landmarks(windows)
    return len(windows) / (time.perf_counter() - began)


@torch.no_grad()
def _ray_cost(subject: Subject, number: int) -> dict[str, float]:
    """Microseconds and millions of multiply-adds of a ray through the head of a frame."""
    head, camera = subject.engine.renderer.portrait.head, subject.engine.avatar.camera
    device = subject.engine.device
    pose = torch.from_numpy(subject.data.poses[number : number + 1]).float().to(device)
    rays = frame_rays(camera, pose, camera.pixels()[None].to(device))
    own = head.region.select(rays.origins[0], rays.directions[0]).nonzero()[:RAYS, 0]
    rays = type(rays)(rays.origins[:, own], rays.directions[:, own])
    code = subject.track[number : number + 1].flatten(1).to(device)
    times = []
    for _ in range(4):
        began = time.perf_counter()
        head.field(rays, code).opacity.sum().item()
        times.append(time.perf_counter() - began)
    return {"us_ray": 1e6 * min(times) / len(own), "mmac_ray": head.field.macs / 1e6}


def overlay(subject: Subject, columns: int = 6) -> np.ndarray:
    """[2 H, columns * W, 3] uint8: evenly spread frames of the split rendered from their sound, and below
    them the same with the landmarks that they were drawn from."""
    import cv2

    numbers = subject.split()
    made = subject.spoken()
    chosen = numbers[np.linspace(0, len(numbers) - 1, columns).astype(int)]
    camera = subject.engine.avatar.camera
    clip = subject.engine.render(
        subject.features[chosen], subject.data.poses[chosen], landmarks=made[chosen].numpy(),
    )  # fmt: skip
    frames, scale = np.asarray(clip.frames[:]), 4
    marks = reprojected(made[chosen], torch.from_numpy(subject.data.poses[chosen]).float(), camera).numpy()
    marked = []
    for frame, points in zip(frames, marks, strict=True):
        large = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        for x, y in points * scale:
            cv2.circle(large, (round(float(x)), round(float(y))), 3, (255, 220, 60), -1, cv2.LINE_AA)
        marked.append(large)
    plain = [cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for frame in frames]
    return np.concatenate([np.concatenate(plain, 1), np.concatenate(marked, 1)])
