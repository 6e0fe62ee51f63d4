"""AD-NeRF's bodies: the imported torso computes what theirs computes (`foreign_networks`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from foreign_folders import random_checkpoint, save_checkpoint
from foreign_networks import (
    FLIP,
    calm,
    imported,
    random_body,
    samples,
    their_code,
    their_nerf,
    their_pixel,
    their_pose,
    their_ray,
    turned,
)
from nldf_engine import ops
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets import open_dataset
from nldf_engine.rendering.fields import Bounds, Rays
from nldf_engine.systems.adnerf.released import import_body, import_head, read_checkpoint
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
    weights, body = calm(random_checkpoint()), calm(random_body(2))
    opened = open_dataset(written["adnerf"])
    near, far = opened.info.near, opened.info.far
    bounds = Bounds(near, far, radius=1.0)
    head = import_head(read_checkpoint(save_checkpoint(tmp_path / "x_head.tar", weights)), bounds)
    torso = TorsoField(
        import_body(read_checkpoint(save_checkpoint(tmp_path / "x_body.tar", body)), head),
        TorsoFieldConfig(in_front=True),
    )
    meta = json.loads((written["adnerf"] / "transforms_train.json").read_text())
    first, frame = np.array(meta["frames"][0]["transform_matrix"]), 5
    matrix = np.array(meta["frames"][frame]["transform_matrix"])
    torso.place(opened.camera, torch.from_numpy(opened.poses[0]), torso)
    head, torso = head.double(), torso.double()
    code = their_code(weights, np.load(written["adnerf"] / "aud.npy"), frame)
    signal = np.concatenate([code, their_pose(matrix)])
    pixels = [(0, 0), (63, 5), (20, 40), (32, 60)]
    behind, theirs = np.array([0.2, 0.5, 0.9]), []
    for pixel in pixels:
        mine, _ = their_pixel(weights, *their_ray(meta, matrix, *pixel), (near, far), code, behind)
        theirs.append(their_pixel(body, *their_ray(meta, first, *pixel), (near, far), signal, mine)[0])
    at = torch.tensor(pixels, dtype=torch.float64)[None] + 0.5
    to = torch.from_numpy
    camera = opened.camera
    poses = to(opened.poses[frame].astype(np.float64))[None]
    view = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float64)[None]
    with torch.no_grad():
        own = head(Rays(*ops.generate_rays(poses, view, at), poses[:, :3, 2]), to(code)[None])
        drive = torso.codes(to(code)[None], poses)
        rays = torso.rays(at / camera.width, torch.eye(2, 3, dtype=torch.float64)[None])
        over = torso.field(rays, drive)
        got = over.over(own.over(to(behind).expand(1, 4, 3)))[0].numpy()
    assert np.abs(got - np.array(theirs)).max() < 1e-5
    assert np.ptp(got, axis=0).max() > 0.01
    assert 0.05 < float(over.opacity.max()) < 0.95  # the body lets the head through


def test_a_body_of_another_head_is_refused(tmp_path: Path) -> None:
    """A body that was driven by a code of another size says so."""
    head = imported(tmp_path, random_checkpoint())
    body = random_checkpoint(1, code=32, extra=42)
    del body["network_audattnet_state_dict"]
    with pytest.raises(FileProblem, match="32 numbers of audio drive it, and the head's code has 64"):
        import_body(read_checkpoint(save_checkpoint(tmp_path / "x_body.tar", body)), head)
