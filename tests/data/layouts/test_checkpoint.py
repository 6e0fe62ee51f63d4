"""AD-NeRF's checkpoints: the imported networks compute what theirs compute, and nothing in a file is run.

Their networks are written down here a second time, in numpy and float64, from the paper and from the
names and shapes in the files: nothing of the package takes part in them.
"""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foreign_folders import Weights, random_checkpoint, save_checkpoint
from nldf_engine import ops
from nldf_engine.apps import cli
from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.data.dataset import Dataset
from nldf_engine.data.layouts.checkpoint import (
    check_body,
    head_bounds,
    import_body,
    import_head,
    read_checkpoint,
)
from nldf_engine.engine import Engine
from nldf_engine.models.adnerf import RadianceField
from nldf_engine.rendering.fields import Bounds, Conditions, Rays
from nldf_engine.rendering.torso_field import TorsoField, TorsoFieldConfig

FLIP = np.array([1.0, -1.0, -1.0])  # our head space to theirs, and back
BOUNDS = Bounds(0.5, 1.1, radius=1.0)
Array = np.ndarray


def encode(x: Array, frequencies: int) -> Array:
    parts = [x]
    for level in range(frequencies):
        parts += [np.sin(2.0**level * x), np.cos(2.0**level * x)]
    return np.concatenate(parts, -1)


def linear(state: dict[str, Any], name: str, x: Array) -> Array:
    return x @ state[f"{name}.weight"].double().numpy().T + state[f"{name}.bias"].double().numpy()


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.02 * x)


def convolve(state: dict[str, Any], name: str, x: Array, stride: int) -> Array:
    """[C, N] -> [D, M]: kernel 3, a zero at both ends."""
    weight, bias = state[f"{name}.weight"].double().numpy(), state[f"{name}.bias"].double().numpy()
    padded = np.pad(x, ((0, 0), (1, 1)))
    places = range(0, x.shape[1], stride)
    return np.stack([np.einsum("dck,ck->d", weight, padded[:, p : p + 3]) + bias for p in places], 1)


def their_nerf(state: dict[str, Any], points: Array, views: Array, code: Array) -> tuple[Array, Array]:
    """rgb [N, 3] and density [N] at points [N, 3] of their head space, seen along views [N, 3]."""
    inputs = np.concatenate([encode(points, 10), np.broadcast_to(code, (len(points), len(code)))], 1)
    hidden = inputs
    for i in range(8):
        hidden = np.maximum(linear(state, f"pts_linears.{i}", hidden), 0)
        if i == 4:
            hidden = np.concatenate([inputs, hidden], 1)
    density = np.maximum(linear(state, "alpha_linear", hidden)[:, 0], 0)
    branch = np.concatenate([hidden, encode(views, 4)], 1)
    for i in range(3):
        branch = np.maximum(linear(state, f"views_linears.{i}", branch), 0)
    return 1 / (1 + np.exp(-linear(state, "rgb_linear", branch))), density


def their_code(weights: Weights, features: Array, frame: int, smoothed: bool = True) -> Array:
    """The audio code of a frame: eight neighbours through the audio net, fused by the attention."""
    net, attention = weights["network_audnet_state_dict"], weights["network_audattnet_state_dict"]

    def one(k: int) -> Array:
        window = features[k] if 0 <= k < len(features) else np.zeros_like(features[0])
        x = window.T.astype(np.float64)
        for i in range(4):
            x = leaky(convolve(net, f"encoder_conv.{2 * i}", x, 2))
        return linear(net, "encoder_fc1.2", leaky(linear(net, "encoder_fc1.0", x[:, 0])))

    if not smoothed:
        return one(frame)
    codes = np.stack([one(k) for k in range(frame - 4, frame + 4)])
    y = codes[:, :32].T
    for i in range(5):
        y = leaky(convolve(attention, f"attentionConvNet.{2 * i}", y, 1))
    logits = linear(attention, "attentionNet.0", y[0])
    share = np.exp(logits - logits.max())
    return (share / share.sum()) @ codes


def imported(tmp_path: Path, weights: Weights, step: int = 300_000) -> RadianceField:
    return import_head(read_checkpoint(save_checkpoint(tmp_path / "x_head.tar", weights, step)), BOUNDS)


def samples(count: int = 200) -> tuple[Array, Array]:
    draw = np.random.default_rng(1)
    views = draw.normal(size=(count, 3))
    return draw.uniform(-0.4, 0.4, (count, 3)), views / np.linalg.norm(views, axis=1, keepdims=True)


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
    opened = Dataset.open(written["adnerf"])
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


def their_pose(matrix: Array) -> Array:
    """[42]: angles and place of the head as AD-NeRF reads them from its own matrices, encoded."""
    e = [
        np.arctan2(matrix[2, 2], matrix[1, 2]),
        np.arcsin(-matrix[0, 2]),
        np.arctan2(matrix[0, 0], -matrix[0, 1]),
    ]
    return np.concatenate([encode(np.array(e), 3), encode(matrix[:3, 3], 3)])


def random_body(seed: int = 1) -> Weights:
    body = random_checkpoint(seed, extra=42)
    del body["network_audattnet_state_dict"]
    return body


def turned(angles: tuple[float, float, float], place: tuple[float, float, float]) -> Array:
    """A matrix of theirs: a head turned about y, x and z, seen from a place."""
    (a, b, c), out = angles, np.eye(4)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    out[:3, :3], out[:3, 3] = y @ x @ z, place
    return out


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
    opened = Dataset.open(written["adnerf"])
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


class Writes:
    """Unpickling an object of this class would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_hostile_pickles_run_nothing(tmp_path: Path) -> None:
    """A checkpoint whose unpickling would write a file is refused, in either format, and writes none."""
    mark = tmp_path / "executed"
    hostile = {**random_checkpoint(), "global_step": Writes(mark)}
    old, bare = io.BytesIO(), pickle.dumps(hostile["global_step"])
    torch.save(hostile, tmp_path / "new_head.tar")
    torch.save(hostile, old, _use_new_zipfile_serialization=False)
    (tmp_path / "old_head.tar").write_bytes(old.getvalue())
    (tmp_path / "bare_head.tar").write_bytes(bare)
    for name in ("new", "old", "bare"):
        with pytest.raises(FileProblem, match=r"refused|can't be read"):
            read_checkpoint(tmp_path / f"{name}_head.tar")
        assert not mark.exists()
    pickle.loads(bare)  # the files were armed
    assert mark.exists()


def test_wrong_files(tmp_path: Path) -> None:
    """Whatever is no AD-NeRF head is refused with what was found."""
    weights = random_checkpoint()
    path = save_checkpoint(tmp_path / "good_head.tar", weights)
    whole = path.read_bytes()

    def refused(changed: Any, match: str) -> None:
        save_checkpoint(path, changed) if isinstance(changed, dict) else path.write_bytes(changed)
        with pytest.raises(FileProblem, match=match):
            import_head(read_checkpoint(path), BOUNDS)

    refused(whole[: len(whole) // 2], "refused|can't be read")
    refused(b"", "refused|can't be read")
    refused({k: v for k, v in weights.items() if "fine" not in k}, "no network_fine_state_dict; it holds")
    broken = random_checkpoint()
    broken["network_fn_state_dict"]["rgb_linear.bias"][1] = np.nan
    refused(broken, "rgb_linear.bias holds NaN")
    broken = random_checkpoint()
    del broken["network_audnet_state_dict"]["encoder_conv.4.bias"]
    refused(broken, "first that differs is encoder.audio.net.encoder_conv.4.bias")
    broken = random_checkpoint()
    broken["network_fn_state_dict"]["pts_linears.3.weight"] = torch.zeros(24, 30)
    refused(broken, "inputs; one skip was expected")
    narrow = random_checkpoint(width=16)["network_fine_state_dict"]
    refused({**weights, "network_fine_state_dict": narrow}, "differ in size")
    broken = random_checkpoint(extra=42)
    del broken["network_audattnet_state_dict"]
    refused(broken, "a body's and no head's")
    with pytest.raises(FileProblem, match="there is no such file"):
        read_checkpoint(tmp_path / "none.tar")
    with pytest.raises(FileProblem, match="a head's and no body's"):
        check_body(read_checkpoint(save_checkpoint(path, weights)))


def test_import_command(written: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`nldf import adnerf` makes an avatar of both fields that renders, and says what came of each file."""
    head = save_checkpoint(tmp_path / "300000_head.tar", random_checkpoint())
    body_file = save_checkpoint(tmp_path / "600000_body.tar", random_body(), 600_000)
    avatar, report = tmp_path / "avatar", tmp_path / "report.json"
    words = ["import", "adnerf", str(head), str(body_file), str(written["adnerf"]), "-o", str(avatar)]
    assert cli.main([*words, "--size", "16", "--json", str(report)]) == 0
    said = capsys.readouterr().out
    assert "300000_head.tar" in said and "600000_body.tar: the torso (step 600000)" in said
    assert json.loads(report.read_text())["body"]["step"] == 600_000
    loaded = Avatar.load(avatar)
    assert loaded.system == "adnerf" and loaded.frontend.name == "precomputed" and loaded.frontend.dim == 29
    assert loaded.provenance["dataset"] == Dataset.open(written["adnerf"]).hash()
    assert loaded.provenance["imported"]["head"]["step"] == 300_000
    torso = loaded.portrait.torso
    assert isinstance(torso, TorsoField) and torso.in_front and isinstance(torso.field, RadianceField)
    np.save(tmp_path / "speech.npy", np.load(written["adnerf"] / "aud.npy")[:2])
    clip = Engine.load(avatar).render(tmp_path / "speech.npy", written["adnerf"])
    frames = np.stack(list(clip.frames))
    assert frames.shape == (2, 16, 16, 3) and frames.std() > 1


def test_import_command_refuses(
    written: dict[str, Path], synthetic_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong words end with 2, wrong files with 1 and one line; no avatar appears."""
    head = str(save_checkpoint(tmp_path / "300000_head.tar", random_checkpoint()))
    avatar = str(tmp_path / "avatar")
    cases = [
        (["radnerf", head, str(written["radnerf"])], 2, "nldf import adnerf"),
        (["adnerf", head], 2, "1 paths were given"),
        (["adnerf", head, str(synthetic_dataset.path)], 1, "give the folder that AD-NeRF trained on"),
        (["adnerf", head, head, str(written["adnerf"])], 1, "a head's and no body's"),
        (["adnerf", str(tmp_path / "x.tar"), str(written["adnerf"])], 1, "there is no such file"),
    ]
    for words, code, said in cases:
        assert cli.main(["import", *words, "-o", avatar]) == code
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not Path(avatar).exists()
