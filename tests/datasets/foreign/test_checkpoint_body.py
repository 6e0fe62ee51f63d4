"""AD-NeRF's bodies: the imported torso computes what theirs computes (`foreign_networks`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foreign_folders import random_checkpoint, save_checkpoint
from foreign_networks import (
    FLIP,
    Array,
    imported,
    random_body,
    samples,
    their_code,
    their_nerf,
    their_pose,
    turned,
)
from nldf_engine import ops
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets import open_dataset
from nldf_engine.rendering.fields import Rays
from nldf_engine.systems.adnerf.released import head_bounds, import_body, import_head, read_checkpoint
from nldf_engine.systems.common.torso_field import TorsoField, TorsoFieldConfig


@pytest.mark.parametrize("part", ["coarse", "fine"])
def test_body_networks_agree(part: str, tmp_path: Path) -> None:
    """Colour and density of the imported body are theirs, under their reading of the head's pose."""
    head = imported(tmp_path, random_checkpoint())
    weights = random_body()
    field = import_body(read_checkpoint(save_checkpoint(tmp_path / "x_body.tar", weights)), head).double()
    points, views = samples()
    draw = np.random.default_rng(3)
    state = weights["network_fn_state_dict" if part == "coarse" else "network_fine_state_dict"]
    turn = np.diag([1.0, -1, -1, 1])
    seen = []
    for angles in ((0.0, 0.0, 0.0), (0.2, -0.3, 0.1), (-0.5, 0.8, -0.7)):
        matrix = turned(angles, (0.1, -0.05, 0.8))
        code = draw.normal(size=64)
        rgb, density = their_nerf(state, points, views, np.concatenate([code, their_pose(matrix)]))
        to = torch.from_numpy
        with torch.no_grad():
            own = field.encoder(to(code)[None], to(turn @ matrix @ turn)[None])
            network = getattr(field, part)
            got = network(to(points * FLIP)[None, :, None], to(views * FLIP)[None], own)
        assert np.abs(got[0][0, :, 0].numpy() - rgb).max() < 1e-5
        assert np.abs(got[1][0, :, 0].numpy() - density).max() < 1e-5 * density.max()
        seen.append(rgb)
    assert np.abs(seen[0] - seen[1]).max() > 0.1, "the pose must matter"


def test_body_pixels_agree(tmp_path: Path, written: dict[str, Path]) -> None:
    """Head and body of one frame, composited in their order, are ours: body over head over background."""
    weights, body = random_checkpoint(), random_body()
    opened = open_dataset(written["adnerf"])
    bounds = head_bounds(opened.info.near, opened.info.far, opened.camera)
    head = import_head(read_checkpoint(save_checkpoint(tmp_path / "x_head.tar", weights)), bounds)
    torso = TorsoField(
        import_body(read_checkpoint(save_checkpoint(tmp_path / "x_body.tar", body)), head),
        TorsoFieldConfig(in_front=True),
    )
    meta = json.loads((written["adnerf"] / "transforms_train.json").read_text())["frames"]
    first, frame = np.array(meta[0]["transform_matrix"]), 5
    matrix = np.array(meta[frame]["transform_matrix"])
    torso.place(opened.camera, torch.from_numpy(opened.poses[0]), torso)
    head, torso = head.double(), torso.double()
    code = their_code(weights, np.load(written["adnerf"] / "aud.npy"), frame)
    signal = np.concatenate([code, their_pose(matrix)])
    edges = np.linspace(bounds.near, bounds.far, 65)
    distances = (edges[1:] + edges[:-1]) / 2
    lengths = np.append(np.diff(distances), bounds.far - distances[-1])
    camera = opened.camera
    pixels = [(0, 0), (63, 5), (20, 40), (32, 60)]

    def march(state: dict[str, Any], pose: Array, i: int, j: int, drive: Array) -> tuple[Array, float]:
        ray = np.array([(i + 0.5 - camera.cx) / camera.fx, -(j + 0.5 - camera.cy) / camera.fy, -1.0])
        ray = pose[:3, :3] @ (ray / np.linalg.norm(ray))
        rgb, density = their_nerf(state, pose[:3, 3] + distances[:, None] * ray, np.tile(ray, (64, 1)), drive)
        alpha = 1 - np.exp(-density * lengths)
        light = np.cumprod(np.append(1.0, 1 - alpha))
        return (light[:-1] * alpha) @ rgb, light[-1]

    behind, theirs = np.array([0.2, 0.5, 0.9]), []
    for i, j in pixels:
        front, left = march(body["network_fn_state_dict"], first, i, j, signal)
        mine, through = march(weights["network_fn_state_dict"], matrix, i, j, code)
        theirs.append(front + left * (mine + through * behind))
    at = torch.tensor(pixels, dtype=torch.float64)[None] + 0.5
    to = torch.from_numpy
    poses = to(opened.poses[frame].astype(np.float64))[None]
    view = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float64)[None]
    with torch.no_grad():
        own = head.passes(Rays(*ops.generate_rays(poses, view, at)), to(code)[None])[1]
        drive = torso.codes(to(code)[None], poses)
        rays = torso.rays(at / camera.width, torch.eye(2, 3, dtype=torch.float64)[None])
        over = torso.field.passes(rays, drive)[1]
        got = over.over(own.over(to(behind).expand(1, 4, 3)))[0].numpy()
    assert np.abs(got - np.array(theirs)).max() < 1e-5
    assert np.ptp(got, axis=0).max() > 0.01


def test_a_body_of_another_head_is_refused(tmp_path: Path) -> None:
    """A body that was driven by a code of another size says so."""
    head = imported(tmp_path, random_checkpoint())
    body = random_checkpoint(1, code=32, extra=42)
    del body["network_audattnet_state_dict"]
    with pytest.raises(FileProblem, match="32 numbers of audio drive it, and the head's code has 64"):
        import_body(read_checkpoint(save_checkpoint(tmp_path / "x_body.tar", body)), head)
