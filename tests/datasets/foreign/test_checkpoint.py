"""AD-NeRF's heads: the imported networks compute what theirs compute (`foreign_networks`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foreign_folders import edit, random_checkpoint, save_checkpoint
from foreign_networks import (
    BOUNDS,
    FLIP,
    calm,
    imported,
    samples,
    their_code,
    their_nerf,
    their_pixel,
    their_ray,
)
from nldf_engine import ops
from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets import open_dataset
from nldf_engine.rendering.fields import Bounds, Conditions, Rays
from nldf_engine.rendering.layer import frame_rays
from nldf_engine.systems.adnerf.model import RadianceField
from nldf_engine.systems.adnerf.released import import_head, read_checkpoint


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


@pytest.mark.parametrize(
    ("step", "smoothed", "with_body", "used"),
    [
        (150_000, False, False, False),
        (250_000, False, False, False),  # the first release trained the attention from step 300000 on
        (250_000, True, False, True),
        (150_000, True, False, True),  # --nosmo_iters 100000
        (100_000, None, False, True),  # the head that a body's training saves: its steps are the body's
        (400_000, None, True, True),
        (150_000, False, True, True),
    ],
)
def test_attention_is_used_where_it_was_trained(
    step: int, smoothed: bool | None, with_body: bool, used: bool, tmp_path: Path
) -> None:
    """By its optimiser's state, whatever the step; always with a body, and where there is no optimiser."""
    weights = random_checkpoint()
    features = np.random.default_rng(4).normal(size=(6, 16, 29)).astype(np.float32)
    theirs = np.stack([their_code(weights, features, k, smoothed=used) for k in range(6)])
    other = np.stack([their_code(weights, features, k, smoothed=not used) for k in range(6)])
    path = save_checkpoint(tmp_path / "x_head.tar", weights, step, smoothed)
    field = import_head(read_checkpoint(path), BOUNDS, with_body)
    conditions = Conditions(torch.from_numpy(features), torch.zeros(6))
    with torch.no_grad():
        ours = field.encode_frames(conditions).double().numpy()
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()
    assert np.abs(ours - other).max() > 0.1 * np.abs(theirs).max()


def test_attention_windows_run_over_listed_frames(tmp_path: Path, copied: Callable[[str], Path]) -> None:
    """As their loader: over the frames of one split, past gaps of the list, with silence behind its end."""
    folder = copied("adnerf")

    def thin(meta: dict[str, Any]) -> None:
        numbers = sorted(frame["img_id"] for frame in meta["frames"])
        gone = {*numbers[:2], numbers[8], numbers[9]}
        meta["frames"] = [frame for frame in meta["frames"] if frame["img_id"] not in gone]

    edit(folder, thin, ("train",))
    dataset = open_dataset(folder)
    weights, features = random_checkpoint(), np.load(folder / "aud.npy")
    field = imported(tmp_path, weights)
    rows = torch.from_numpy(dataset.audio_features(FrontendConfig("precomputed", dim=29)))
    conditions = Conditions(rows, torch.zeros(len(rows)), lists=torch.from_numpy(dataset.lists))
    with torch.no_grad():
        ours = field.encode_frames(conditions).double().numpy()
        numbered = field.encode_frames(conditions.replaced(lists=None)).double().numpy()
    apart = []
    for name in ("train", "val"):
        frames = json.loads((folder / f"transforms_{name}.json").read_text())["frames"]
        listed = features[[min(frame["aud_id"], len(features) - 1) for frame in frames]]
        theirs = np.stack([their_code(weights, listed, k) for k in range(len(frames))])
        at = np.array([frame["img_id"] for frame in frames]) - dataset.first
        assert np.abs(ours[at] - theirs).max() < 1e-5 * np.abs(theirs).max()
        apart.append(np.abs(numbered[at] - theirs).max(1) > 0.01 * np.abs(theirs).max())
    # By number, the last three of the training split would differ, and the frames about a gap.
    assert apart[0][-3:].all() and apart[0].sum() >= 10


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-6), (torch.float32, 1e-5)])
def test_pixels_agree(dtype: torch.dtype, tolerance: float, tmp_path: Path, written: dict[str, Path]) -> None:
    """Pixels as they render them, from transforms over both passes to the background, are ours."""
    weights = calm(random_checkpoint())
    dataset = open_dataset(written["adnerf"])
    near, far = dataset.info.near, dataset.info.far
    checkpoint = read_checkpoint(save_checkpoint(tmp_path / "x_head.tar", weights))
    field = import_head(checkpoint, Bounds(near, far, radius=1.0)).to(dtype)
    frame = 5
    meta = json.loads((written["adnerf"] / "transforms_train.json").read_text())
    matrix = np.array(meta["frames"][frame]["transform_matrix"])
    code = their_code(weights, np.load(written["adnerf"] / "aud.npy"), frame)
    draw = np.random.default_rng(0)
    pixels = [(0, 0), (63, 5), (63, 63), (32, 32), *map(tuple, draw.integers(0, 64, (60, 2)).tolist())]
    behind = draw.uniform(size=(len(pixels), 3))
    theirs = [
        their_pixel(weights, *their_ray(meta, matrix, *pixel), (near, far), code, color)
        for pixel, color in zip(pixels, behind, strict=True)
    ]
    to = lambda x: torch.from_numpy(np.asarray(x)).to(dtype)  # noqa: E731
    pose = to(dataset.poses[frame].astype(np.float64))[None]
    view = dataset.camera.intrinsics()[None].to(dtype)
    rays = Rays(*ops.generate_rays(pose, view, to(pixels)[None] + 0.5), pose[:, :3, 2])
    with torch.no_grad():
        seen = field(rays, to(code)[None])
    got = seen.over(to(behind)[None])[0].double().numpy()
    assert np.abs(got - [pixel for pixel, _ in theirs]).max() < tolerance
    left = np.array([weight for _, weight in theirs])
    assert np.abs(1 - seen.opacity[0].double().numpy() - left).max() < tolerance
    assert np.ptp(got, axis=0).max() > 0.1 and np.ptp(left) > 0.1  # something to get wrong
    # By strata of distance it is another picture.
    strata = RadianceField(replace(field.config, sampling="strata")).to(dtype)
    strata.load_state_dict(field.state_dict())
    with torch.no_grad():
        other = strata(rays, to(code)[None]).over(to(behind)[None])[0].double().numpy()
    assert np.abs(other - got).max() > 100 * tolerance


def test_sparse_rendering_keeps_the_picture(tmp_path: Path, written: dict[str, Path]) -> None:
    """Leaving out what the coarse pass found empty or hidden changes no pixel by more than a level."""
    dataset = open_dataset(written["adnerf"])
    checkpoint = read_checkpoint(save_checkpoint(tmp_path / "x_head.tar", random_checkpoint()))
    field = import_head(checkpoint, Bounds(dataset.info.near, dataset.info.far, radius=1.0))
    rays = frame_rays(dataset.camera, torch.from_numpy(dataset.poses[:1]), dataset.camera.pixels()[None, ::7])
    code = torch.zeros(1, 64)
    with torch.no_grad():
        whole = field(rays, code)
        field.sparse = True
        sparse = field(rays, code)
    assert (whole.color - sparse.color).abs().max() < 1 / 255
    assert whole.opacity.max() > 0.9


def test_depth_needs_a_camera(tmp_path: Path) -> None:
    """Rays of no camera have no depth, which is said."""
    field = imported(tmp_path, random_checkpoint())
    rays = Rays(torch.zeros(1, 2, 3), torch.tensor([0.0, 0.0, 1.0]).expand(1, 2, 3))
    with pytest.raises(ValueError, match="rays: expected the cameras' axes"):
        field(rays, torch.zeros(1, 64))
