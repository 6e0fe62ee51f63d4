"""Stage 2 by itself, from tracked landmarks to the head: how a field is conditioned on landmarks."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.gaussian_landmark.speech import PRESET, Options, Row, spread_of
from nldf_engine.audio import FrontendConfig
from nldf_engine.base.progress import Bar
from nldf_engine.datasets import open_dataset
from nldf_engine.evaluation.frame_metrics import image_metrics
from nldf_engine.evaluation.metrics.optional.lpips import load_lpips
from nldf_engine.rendering.fields import Bounds
from nldf_engine.rendering.layer import View, to_uint8
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.gaussian_landmark.encoding import ENCODINGS, EncodingSizes
from nldf_engine.systems.gaussian_landmark.model import GaussianFieldConfig
from nldf_engine.systems.gaussian_landmark.recipe import GaussianRecipe, LandmarkTraining
from nldf_engine.training.checkpoint import RunState
from nldf_engine.training.config import TrainConfig
from nldf_engine.training.landmarks import fit_landmarks
from nldf_engine.training.presets import Preset, find_preset
from nldf_engine.training.public_losses import run_picture_loss
from nldf_engine.training.scene import RayScene, Scenes
from nldf_engine.training.stages import Run, Subject, calibrate
from nldf_engine.training.trainer import Budget, Trainer

STEPS = 250
NAMES = {
    "gamma": "gamma(L)", "mlp": "MLP", "isotropic": "eq. (7)", "gaussian-flat": "eq. (8a) without gamma(d_z)",
    "gaussian": "eq. (8a)",
}  # fmt: skip
"""The rows of the paper's table III, by the setting `encoding`."""
PAPER: dict[str, Any] = {"carries": False, "components": 0, "levels": EncodingSizes.levels}
CARRIED: dict[str, Any] = PAPER | {"carries": True}
COLUMNS = ("psnr_head", "psnr_mouth", "ssim_head")


def encodings(path: Path, options: Options) -> dict[str, Row]:
    """Table III: how landmarks condition the field, at equal steps.

    Heads of the tracked landmarks, before the torso's plate, against real frames that were not trained on.
    Below the paper's rows, what the preset adds to eq. (8a): Gaussians that carry the grid along, and shapes.
    """
    assert set(NAMES) == set(ENCODINGS)
    scene = _scene(path, options)
    variants: dict[str, tuple[str, dict[str, Any]]] = {label: (kind, PAPER) for kind, label in NAMES.items()}
    variants |= {
        "eq. (8a), carrying": ("gaussian", CARRIED),
        "eq. (8a), carrying, shapes: the preset's": ("gaussian", {}),
    }
    found = {}
    for label, (kind, sizes) in variants.items():
        rows = [_field_row(scene, kind, sizes, seed, options) for seed in range(options.seeds)]
        found[label] = spread_of(rows)
    return found


def encoding_row(path: Path, kind: str, seed: int, options: Options) -> Row:
    """One training of a row of `encodings` as the paper has it, from a seed."""
    return _field_row(_scene(path, options), kind, PAPER, seed, options)


def _scene(path: Path, options: Options) -> RayScene:
    size = find_preset(options.preset or PRESET).recipe.size
    return RayScene(open_dataset(path), size, FrontendConfig("whisper").resolve(), torch.device("cpu"))


def _field_row(scene: RayScene, kind: str, sizes: dict[str, Any], seed: int, options: Options) -> Row:
    steps = options.steps or STEPS
    preset = find_preset(options.preset or PRESET, {"encoding": kind, "torso": "plate"})

    def config(bounds: Bounds, conditions: ConditionConfig) -> GaussianFieldConfig:
        made = preset.config(bounds, conditions)
        assert isinstance(made, GaussianFieldConfig)
        return dataclasses.replace(made, encoding=dataclasses.replace(made.encoding, **sizes))

    recipe = dataclasses.replace(preset.recipe, steps=steps)
    return _trained_row(scene, dataclasses.replace(preset, recipe=recipe, config=config), seed, options)


def _trained_row(scene: RayScene, preset: Preset, seed: int, options: Options) -> Row:
    config = TrainConfig(weights=options.weights, seed=seed)
    torch.manual_seed(seed)
    run = Run(preset, config, Scenes([scene]), scene.frontend, scene.device)
    recipe = run.recipe
    assert isinstance(recipe, GaussianRecipe)
    training = LandmarkTraining(recipe, run_picture_loss(run, recipe.losses.perceptual_blocks), alone=False)
    training.build(run)
    subject = run.subjects[0]
    scene.set_track("landmarks", fit_landmarks(subject.portrait.head.driver, scene))
    calibrate(subject.portrait, run.scenes)
    objective = training.objective(run, subject)
    with (
        tempfile.TemporaryDirectory() as folder,
        Bar(f"{recipe.encoding}, seed {seed}", recipe.steps, "step") as bar,
    ):
        trainer = Trainer(
            [subject], [objective], recipe, Budget(recipe.steps), RunState({}), Path(folder), seed
        )
        for _ in range(recipe.steps):
            trainer.step()
            bar.step()
    return _scores(subject, options)


@torch.no_grad()
def _scores(subject: Subject, options: Options) -> Row:
    """Means over evenly spread frames of the split."""
    scene, portrait = subject.scene, subject.portrait.eval()
    frames = scene.dataset.indices(options.split)
    chosen = frames[np.linspace(0, len(frames) - 1, min(options.frames, len(frames))).astype(int)]
    lpips, _ = load_lpips(None, scene.camera.width, scene.camera.height)
    marks = scene.dataset.landmarks * (scene.camera.width / scene.dataset.camera.width)
    rows: list[Row] = []
    for number in np.unique(chosen).tolist():
        code = portrait.head.encode_frames(scene.conditions, torch.tensor([number]))[0]
        layer = portrait.layer(View(scene.camera, scene.poses[number], scene.motions[number]), code)
        made, real = to_uint8(layer.over(scene.backdrop(number))).numpy(), scene.frames[number].numpy()
        scores = image_metrics(made, real, scene.labels[number].numpy(), marks[number])
        row = {name: scores[name] for name in COLUMNS}
        rows.append(row | ({"lpips": lpips(made, real)} if lpips is not None else {}))
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
