"""AD-NeRF's heads: the imported networks compute what theirs compute (`foreign_networks`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from foreign_folders import random_checkpoint, save_checkpoint
from foreign_networks import FLIP, imported, samples, their_code, their_nerf
from nldf_engine.datasets import open_dataset
from nldf_engine.rendering.fields import Conditions, Rays
from nldf_engine.systems.adnerf.released import head_bounds, import_head, read_checkpoint


@pytest.mark.parametrize("part", ["coarse", "fine"])
def test_networks_agree(part: str, tmp_path: Path) -> None:
    """Colour and density of the imported networks are theirs, at the mirrored points."""
    weights = random_checkpoint()
    field = imported(tmp_path, weights)
    points, views = samples()
    code = np.random.default_rng(2).normal(size=64)
    state = weights["network_fn_state_dict" if part == "coarse" else "network_fine_state_dict"]
    rgb, density = their_nerf(state, points, views, code)
    assert density.max() > 1 and np.ptp(rgb) > 0.3  # something to get wrong
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-5)):
        network = getattr(field, part).to(dtype)
        to = lambda x: torch.from_numpy(x).to(dtype)  # noqa: E731, B023
        with torch.no_grad():
            got = network(to(points * FLIP)[None, :, None], to(views * FLIP)[None], to(code)[None])
        assert np.abs(got[0][0, :, 0].double().numpy() - rgb).max() < tolerance
        assert np.abs(got[1][0, :, 0].double().numpy() - density).max() < tolerance * density.max()


def test_points_are_mirrored(tmp_path: Path) -> None:
    """The agreement is no accident: without the mirroring of head space it is gone."""
    weights = random_checkpoint()
    field = imported(tmp_path, weights).double()
    points, views = samples()
    code = np.zeros(64)
    rgb, _ = their_nerf(weights["network_fn_state_dict"], points, views, code)
    to = torch.from_numpy
    with torch.no_grad():
        unmirrored = field.coarse(to(points)[None, :, None], to(views)[None], to(code)[None])[0]
    assert np.abs(unmirrored[0, :, 0].numpy() - rgb).max() > 1e-2


def test_audio_codes_agree(tmp_path: Path) -> None:
    """Audio net and attention give their codes, at the ends of the clip too, to 1e-5 in float32."""
    weights = random_checkpoint()
    features = np.random.default_rng(4).normal(size=(12, 16, 29)).astype(np.float32)
    theirs = np.stack([their_code(weights, features, k) for k in range(12)])
    conditions = Conditions(torch.from_numpy(features), torch.zeros(12))
    field = imported(tmp_path, weights)
    with torch.no_grad():
        ours = field.encode_frames(conditions).double().numpy()
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()
    assert np.abs(theirs - theirs[6]).max() > 0.1


def test_attention_before_its_training(tmp_path: Path) -> None:
    """Before step 200000, AD-NeRF renders from a frame's own code: so does the import."""
    weights = random_checkpoint()
    features = np.random.default_rng(4).normal(size=(6, 16, 29)).astype(np.float32)
    theirs = np.stack([their_code(weights, features, k, smoothed=False) for k in range(6)])
    conditions = Conditions(torch.from_numpy(features), torch.zeros(6))
    field = imported(tmp_path, weights, step=150_000)
    with torch.no_grad():
        ours = field.encode_frames(conditions).double().numpy()
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_pixels_agree(tmp_path: Path, written: dict[str, Path]) -> None:
    """A frame's pixels, from their transforms, rays and compositing, are ours over the same background."""
    weights = random_checkpoint()
    opened = open_dataset(written["adnerf"])
    bounds = head_bounds(opened.info.near, opened.info.far, opened.camera)
    checkpoint = read_checkpoint(save_checkpoint(tmp_path / "x_head.tar", weights))
    field = import_head(checkpoint, bounds).double()
    frame, behind = 5, np.array([0.2, 0.5, 0.9])
    meta = json.loads((written["adnerf"] / "transforms_train.json").read_text())
    matrix = np.array(meta["frames"][frame]["transform_matrix"])
    code = their_code(weights, np.load(written["adnerf"] / "aud.npy"), frame)
    edges = np.linspace(bounds.near, bounds.far, 65)
    distances = (edges[1:] + edges[:-1]) / 2  # where our coarse pass looks
    lengths = np.append(np.diff(distances), bounds.far - distances[-1])
    pixels = [(0, 0), (63, 5), (20, 40), (32, 32)]
    theirs, near_depth = [], []
    for i, j in pixels:
        ray = np.array([(i - meta["cx"]) / meta["focal_len"], -(j - meta["cy"]) / meta["focal_len"], -1.0])
        near_depth.append(bounds.near / np.linalg.norm(ray))
        ray = matrix[:3, :3] @ (ray / np.linalg.norm(ray))
        points = matrix[:3, 3] + distances[:, None] * ray
        rgb, density = their_nerf(weights["network_fn_state_dict"], points, np.tile(ray, (64, 1)), code)
        alpha = np.append(1 - np.exp(-density * lengths), 1.0)  # their last sample is the background
        light = np.cumprod(np.append(1.0, 1 - alpha[:-1]))
        theirs.append((light * alpha) @ np.vstack([rgb, behind]))
    camera, pose = opened.camera, opened.poses[frame].astype(np.float64)
    at = np.array(pixels) + 0.5
    rays = np.stack([(at[:, 0] - camera.cx) / camera.fx, (at[:, 1] - camera.cy) / camera.fy, np.ones(4)], 1)
    rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)) @ pose[:3, :3].T
    to = torch.from_numpy
    ours = field.passes(Rays(to(np.tile(pose[:3, 3], (1, 4, 1))), to(rays)[None]), to(code)[None])[1]
    got = ours.over(to(behind).expand(1, 4, 3))[0].detach().numpy()
    assert np.abs(got - np.array(theirs)).max() < 1e-5
    assert np.ptp(got, axis=0).max() > 0.01
    # No sample comes before the depth at which their training began.
    assert min(near_depth) >= opened.info.near - 1e-9
