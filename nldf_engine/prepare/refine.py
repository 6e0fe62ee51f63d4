"""Refines a dataset's head poses and torso motion by the pictures themselves.

A small light field of the speaker is trained on all frames and thrown away: it is a tracker, and no
avatar ever sees it. Between the legs of its training every frame is moved to where it draws the frame
(`prepare.refine_step`). Poses that are exact in the frames an avatar is trained on make a sharper avatar;
poses that are exact everywhere make its metrics on held-out frames those of its picture, not of the tracking.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nldf_engine.audio import prepared_frontend
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.json import encode
from nldf_engine.base.progress import Bar
from nldf_engine.datasets.dataset import LABELS, Dataset, write_dataset
from nldf_engine.datasets.footage import Filmed
from nldf_engine.media.pictures import read_picture
from nldf_engine.prepare.config import RefineConfig
from nldf_engine.prepare.refine_step import Compared, HeadSurface, align_head, align_torso, disagreement
from nldf_engine.prepare.report import Refined
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.layer import View
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.common.motion import MOUTH, MotionBasis
from nldf_engine.systems.nldf.objective import light_field_objective
from nldf_engine.systems.nldf_fast.model import GridLightField, GridLightFieldConfig
from nldf_engine.systems.nldf_fast.recipe import fast_recipe
from nldf_engine.training.motion import FACE_DEPTH, fit_basis
from nldf_engine.training.optimizer import TableAdam
from nldf_engine.training.recipe import with_parts
from nldf_engine.training.scene import RayScene
from nldf_engine.training.stages import RayPart, Subject, calibrate, plate_or_layer
from nldf_engine.training.targets import HeadTarget
from nldf_engine.training.trainer import BETAS, parameter_groups, psnr_of

VERSION = 4
MOUTH_MARGIN = 0.016  # of the frame's width: the lips move by themselves
ABOUT = 1.5 / 256  # of the frame's width, from a part's outline
# What reveals a frame's camera, or where its lips were seen, reveals the error of its pose too, and a field
# that knows it draws the frame where it was tracked. Here cameras are moved by more than poses are off, and
# the mouth is known by its shape alone.
RAY_JITTER = 0.004  # metres
MOTION_NOISE = 0.5
GRID_RATE = 0.03
FACE_WIDTH = 0.15  # metres, of the flat face that replaces an unknown shape
FINAL_RATE = 0.1
FEWEST_FRAMES = 50
# Errors from which on a pixel counts for less (see `Compared`), in the first round and in the last. A field
# that has learned little errs everywhere. One that is sharp errs where something moves by itself, a collar, a
# fold, a brow, and that says nothing about where head and torso are.
OUTLYING = (0.12, 0.05)


class _Refinement:
    """A scene whose poses and motions are moved in place.

    Args:
        dataset: with tracked poses.
        config: how.
    """

    def __init__(self, dataset: Dataset, config: RefineConfig) -> None:
        self.config, self.generator = config, torch.Generator()
        self.recipe = replace(
            with_parts(
                fast_recipe(),
                sampling={"rays": config.rays, "blink_share": 0.0},
                regularisation={"correction": 0.0, "ray_jitter": RAY_JITTER},
                driving={"motion_noise": MOTION_NOISE},
                opacity={"inside_weight": 1.0},
                sharpening={"weight": 0.0},
            ),
            grid_learning_rate=GRID_RATE,
        )
        size = min(config.size, dataset.info.size[0])
        frontend = prepared_frontend(dataset.info.audio)
        torch.manual_seed(config.seed)
        self.scene = RayScene(
            dataset, size, frontend.resolve(), torch.device("cpu"), learned_torso=True, fit="all",
            most=sys.maxsize,  # every frame is moved by its picture
        )  # fmt: skip
        self.scene.poses = self.scene.poses.clone()  # the dataset's own array otherwise
        window, features = self.scene.conditions.audio.shape[1:]
        conditions = ConditionConfig(int(features), int(window), motion=self.recipe.driving.motion_codes)
        field = GridLightField(GridLightFieldConfig(self.scene.bounds, conditions))
        self.portrait = Portrait(RayHead(field, self.scene.region), plate_or_layer(self.scene))
        basis = field.encoder.part("motion").basis
        fit_basis(basis, dataset, self.scene.fit)
        self.scene.set_track("motion", _shape_codes(basis, dataset, self.scene.fit))
        calibrate(self.portrait, [self.scene])
        target = HeadTarget(self.portrait, self.scene)
        subject = Subject(self.scene, self.portrait)
        self.objective = light_field_objective(RayPart(subject, target, self.recipe, None, Path()))
        self.generator.set_state(torch.get_rng_state())
        groups = parameter_groups(self.portrait, [self.objective], self.recipe)
        self.optimizer, self._trained = TableAdam(groups, self.recipe.learning_rate, BETAS), 0
        self.surface, self.filmed = HeadSurface(_shape_of(dataset)), Filmed(dataset, size)
        lips = dataset.landmarks[:, list(MOUTH)] * (size / dataset.camera.width)
        self.lips = np.concatenate([lips.min(1), lips.max(1)], 1)

    def train(self, bar: Bar) -> None:
        """One leg."""
        self.portrait.train()
        total = self.config.rounds * self.config.steps
        for _ in range(self.config.steps):
            for group in self.optimizer.param_groups:
                group["lr"] = group["first_lr"] * FINAL_RATE ** (self._trained / max(1, total))
            loss = self.objective(self.generator)
            self.optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            self.optimizer.step()
            self._trained += 1
            bar.step(note=f"{psnr_of(float(loss.logged['pixel']) / 3):.1f} dB")

    @torch.no_grad()
    def align(self, bar: Bar, outlying: float) -> tuple[float, float]:
        """Moves every frame; the mean PSNR before and after. `outlying` is as for `Compared`."""
        scene, camera = self.scene, self.scene.camera
        self.portrait.eval()
        codes = self.portrait.head.encode_frames(scene.conditions)
        before, after = [], []
        for number in scene.fit.tolist():
            real, backdrop = scene.frames[number].float() / 255, scene.backdrop(number)
            head, torso = self._pixels(number)

            def picture(pose: Tensor, motion: Tensor, at: int = number, behind: Tensor = backdrop) -> Tensor:
                view = View(camera, pose, motion)
                return self.portrait.picture(view, codes[at], behind).float() / 255

            pose, motion = scene.poses[number].clone(), scene.motions[number].clone()
            rendered = picture(pose, motion)
            compared = Compared.of(rendered, real, outlying)
            new_pose = align_head(compared, head, pose, camera, self.surface)
            new_motion = align_torso(compared, torso, motion, camera)
            # A step that does not bring the pictures together is not taken.
            moved = picture(new_pose, new_motion)
            better = [
                disagreement(moved, real, part, outlying) < disagreement(rendered, real, part, outlying)
                for part in (head, torso)
            ]
            if better[0]:
                scene.poses[number] = new_pose
            if better[1]:
                scene.motions[number] = new_motion
            before.append(psnr_of(_error(rendered, real)))
            for part, taken in zip((head, torso), better, strict=True):
                if not taken:  # it is drawn where it was
                    moved.view(-1, 3)[part] = rendered.view(-1, 3)[part]
            after.append(psnr_of(_error(moved, real)))
            bar.step()
        return float(np.mean(before)), float(np.mean(after))

    def _pixels(self, number: int) -> tuple[Tensor, Tensor]:
        """Numbers of the pixels that show how a frame's head and its torso lie: without the mouth, and with
        their outlines, where hair, collar and shoulders tell most, but not where the two meet or nothing was
        filmed."""
        labels, width = self.scene.labels[number].numpy(), self.scene.camera.width
        head, torso = (labels == LABELS[name] for name in ("head", "torso"))
        wide_head, wide_torso = (_grown(part, ABOUT * width) for part in (head, torso))
        filmed = self.filmed(number)  # what is guessed beside a shot moves as it was guessed to
        of_head, of_torso = wide_head & ~wide_torso & filmed, wide_torso & ~wide_head & filmed
        box = self.lips[number]
        if np.isfinite(box).all():
            x0, y0 = np.maximum(box[:2] - MOUTH_MARGIN * width, 0).astype(int)
            x1, y1 = np.maximum(box[2:] + MOUTH_MARGIN * width, 0).astype(int)
            of_head[y0 : y1 + 1, x0 : x1 + 1] = False
        return torch.from_numpy(np.flatnonzero(of_head)), torch.from_numpy(np.flatnonzero(of_torso))


def _grown(mask: np.ndarray, reach: float) -> np.ndarray:
    """A mask bool [H, W] with all that is within `reach` pixels of it, in steps of a chess king."""
    import cv2

    side = 2 * max(1, round(reach)) + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8))).astype(bool)


def _shape_codes(basis: MotionBasis, dataset: Dataset, fit: Tensor) -> Tensor:
    """Codes [T, K] of the mouth's shape, wherever it is; of unit variance over the frames `fit` [N]."""
    landmarks, poses = (torch.from_numpy(np.asarray(x)).float() for x in (dataset.landmarks, dataset.poses))
    placed = basis.place(landmarks, poses, dataset.camera).nan_to_num(0)
    shape = (placed - placed.mean(1, keepdim=True)).flatten(1).double()
    shape = shape - shape[fit].mean(0)
    _, _, components = torch.linalg.svd(shape[fit], full_matrices=False)
    codes = shape @ components[: len(basis.scale)].t()
    return (codes / codes[fit].std(0).clamp_min(1e-9)).float()


def _error(rendered: Tensor, real: Tensor) -> float:
    """Mean squared error."""
    return float((rendered - real).square().mean())


def _shape_of(dataset: Dataset) -> np.ndarray:
    """The speaker's mean shape [L, 3], metres; a flat face where the dataset has none."""
    shape = dataset.extra.get("shape")
    if shape is not None and np.isfinite(shape).all():
        return np.asarray(shape, np.float64)
    corners = FACE_WIDTH / 2 * np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    return np.concatenate([corners, np.full((4, 1), FACE_DEPTH)], 1)


def refine(dataset: str | Path, config: RefineConfig | None = None) -> Refined:
    """Refines the poses and the torso's motion of a dataset folder, in place and all at once.

    The tracked ones are kept in `track.safetensors` as `poses_tracked` and `torso_tracked`. Where it is
    stopped, the dataset is as it was.

    Raises:
        FileProblem: the folder is no dataset of `nldf prepare`, or was refined before.

    Example:
        >>> refine("data/speaker").head_pixels    # doctest: +SKIP
        0.62
    """
    config = config or RefineConfig()
    data = Dataset.open(dataset)
    path = Path(dataset)
    if not (path / "dataset.json").is_file():
        raise FileProblem(
            path, "it has a foreign layout, which is read and never written", "prepare the video"
        )
    data.check_unchanged()
    if "poses_tracked" in data.extra:
        raise FileProblem(path, "its poses are refined already", "nothing is left to do")
    if len(data.indices("all")) < FEWEST_FRAMES:
        few = f"it has {len(data.indices('all'))} frames with a face, and {FEWEST_FRAMES} are needed"
        raise FileProblem(path, few, "use its tracked poses as they are")
    track, result = refined_track(data, config)
    _write(path, data, track, config, result)
    return result


def refined_track(data: Dataset, config: RefineConfig) -> tuple[dict[str, np.ndarray], Refined]:
    """The tensors of a dataset's track that a refinement changes or adds, and what it did.

    Returns:
        "poses" and "poses_tracked" [T, 4, 4] float32, and where the torso is tracked, "torso" and
        "torso_tracked" [T, 2, 3], pixels; and the measurements.
    """
    began = time.monotonic()
    work = _Refinement(data, config)
    psnr = []
    moves = (config.rounds + 1) * len(work.scene.fit)
    with Bar("refine poses", config.rounds * config.steps + moves) as bar:
        for outlying in np.geomspace(*OUTLYING, config.rounds):
            work.train(bar)
            psnr.append(work.align(bar, float(outlying)))
        # One step does not go all the way, and after the last one no round follows.
        psnr.append(work.align(bar, float(outlying)))
    track = {"poses": work.scene.poses.numpy().copy(), "poses_tracked": np.asarray(data.poses, np.float32)}
    if "torso" in data.extra:
        motion = work.scene.motions.numpy().copy()
        motion[:, :, 2] *= data.info.size[0]
        track |= {"torso": motion.astype(data.extra["torso"].dtype), "torso_tracked": data.extra["torso"]}
    return track, _moved(data, work, psnr, time.monotonic() - began)


def provenance(config: RefineConfig) -> dict[str, Any]:
    """What a refined dataset's provenance says of its refinement."""
    return {"tool": "nldf refine", "version": VERSION, "config": encode(config)}


def _moved(data: Dataset, work: _Refinement, psnr: list[tuple[float, float]], seconds: float) -> Refined:
    """What the refinement measured."""
    seen = work.scene.fit
    old, new = torch.from_numpy(data.poses).double()[seen], work.scene.poses.double()[seen]
    turn = old[:, :3, :3].transpose(1, 2) @ new[:, :3, :3]
    angle = torch.arccos(((turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))

    def seen_at(poses: Tensor) -> Tensor:
        origin = -(poses[:, :3, :3].transpose(1, 2) @ poses[:, :3, 3:])[..., 0]
        return 512 / data.camera.width * data.camera.fx * origin[:, :2] / origin[:, 2:]

    motion = data.torso_motion()
    shift = torch.zeros(len(seen), 2)
    if motion is not None:
        middle = torch.tensor([0.5, 0.85, 1.0])
        shift = 512 * (work.scene.motions[seen] @ middle - torch.from_numpy(motion)[seen] @ middle)
    rms = [float(move.square().sum(1).mean().sqrt()) for move in (seen_at(new) - seen_at(old), shift)]
    turned = float(torch.rad2deg(angle.square().mean().sqrt()))
    return Refined(psnr, rms[0], rms[1], turned, seconds)


def _write(
    path: Path, data: Dataset, refined: dict[str, np.ndarray], config: RefineConfig, result: Refined
) -> None:
    """Writes the dataset again, with the new track and the refinement in its report and provenance."""
    track = {
        "poses": data.poses, "landmarks": data.landmarks, "eye_openness": data.eye_openness,
        "valid": data.valid, **data.extra, **refined,
    }  # fmt: skip
    report = path / "report.json"
    measured = json.loads(report.read_text("utf-8")) if report.is_file() else {}
    page = read_picture(path / "report.png", "delete it") if (path / "report.png").is_file() else None
    write_dataset(
        path, replace(data.info, provenance={**data.info.provenance, "refined": provenance(config)}),
        video=path / "video.mp4", labels=path / "parsing.mkv", background=data.background(),
        audio=data.audio(), track=track, report={**measured, "refined": result.to_json()}, report_image=page,
    )  # fmt: skip
