"""The torso as a field: rays that stand still, codes that tell the pose, a layer beside the head's."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.engine import Engine
from nldf_engine.nn.pose import PoseEncoder, pose_dim, pose_numbers
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.layer import View, frame_rays
from nldf_engine.systems.adnerf.model import RadianceField
from nldf_engine.systems.common.torso_field import TorsoField, TorsoFieldConfig


def rotation(axis: int, angle: float) -> torch.Tensor:
    """Right-handed, about x, y or z."""
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    out = torch.eye(3, dtype=torch.float64)
    out[a, a] = out[b, b] = np.cos(angle)
    out[a, b], out[b, a] = -np.sin(angle), np.sin(angle)
    return out


def with_field(in_front: bool = False, follows: bool = False) -> Avatar:
    """A tiny avatar whose torso is an untrained radiance field."""
    avatar = tiny_avatar("adnerf")
    head = dataclasses.replace(avatar.portrait.head.field.config, density="softplus", density_scale=4.0)
    avatar.portrait.head = RayHead(RadianceField(head), avatar.portrait.head.region).eval()
    conditions = dataclasses.replace(head.conditions, head_pose=2)
    network = RadianceField(dataclasses.replace(head, conditions=conditions))
    torso = TorsoField(network, TorsoFieldConfig(in_front, follows))
    torso.place(avatar.camera, avatar.poses[7], avatar.portrait.torso)
    avatar.portrait.torso = torso.eval()
    return avatar


def test_pose_numbers_are_the_angles_that_made_the_pose() -> None:
    """Rx(a) Ry(b) Rz(c) gives a, b, c back, and the camera's place."""
    angles = torch.tensor([[0.3, -0.2, 0.5], [-1.2, 0.9, -2.0]], dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    for pose, (a, b, c) in zip(poses, angles.tolist(), strict=True):
        pose[:3, :3] = rotation(0, a) @ rotation(1, b) @ rotation(2, c)
        pose[:3, 3] = torch.tensor([0.1, 0.2, -0.7])
    numbers = pose_numbers(poses)
    torch.testing.assert_close(numbers[:, :3], angles)
    torch.testing.assert_close(numbers[:, 3:], poses[:, :3, 3])


def test_pose_codes_are_brought_to_unit_variance_and_held() -> None:
    """Calibrated numbers have no mean and variance one; a pose far outside changes no more."""
    avatar = tiny_avatar()
    encoder = PoseEncoder(1).eval()
    code = torch.randn(len(avatar.poses), 5)
    assert encoder(code, avatar.poses).shape == (len(avatar.poses), 5 + pose_dim(1))
    encoder.calibrate(avatar.poses)
    coded = encoder(code, avatar.poses)
    assert torch.equal(coded[:, :5], code)
    sway = coded[:, 5 + 9]  # camera x, the only number that changes
    assert abs(float(sway.mean())) < 1e-3 and float(sway.std()) == pytest.approx(1, abs=1e-3)
    far, farther = avatar.poses[:1].clone(), avatar.poses[:1].clone()
    far[:, 0, 3], farther[:, 0, 3] = 5.0, 50.0
    assert torch.equal(encoder(code[:1], far), encoder(code[:1], farther))


def test_canonical_rays_do_not_move_with_the_head() -> None:
    """They are the canonical camera's at every size; where the torso follows, they go by its motion."""
    avatar = with_field()
    torso, camera = avatar.portrait.torso, avatar.camera
    still = torch.eye(2, 3)[None]
    for size in (24, 60):
        scaled = camera.scaled(size)
        pixels = scaled.pixels()[None]
        own = frame_rays(scaled, avatar.poses[7][None], pixels)
        rays = torso.rays(pixels / size, still)
        torch.testing.assert_close(rays.origins, own.origins)
        torch.testing.assert_close(rays.directions, own.directions, atol=1e-6, rtol=0)
    moved = still.clone()
    moved[:, 0, 2] = 3 / 24
    points = camera.pixels()[None] / 24
    assert torch.equal(torso.rays(points, moved).directions, torso.rays(points, still).directions)
    torso.config = TorsoFieldConfig(follows=True)
    shifted = torso.rays(points, moved).directions.view(24, 24, 3)[:, 3:]
    torch.testing.assert_close(shifted, torso.rays(points, still).directions.view(24, 24, 3)[:, :-3])


@pytest.mark.parametrize("in_front", [False, True])
def test_the_order_of_the_layers(in_front: bool) -> None:
    """A frame is head over torso over background, or torso over head over background, and says its alpha."""
    portrait, camera, code, motion = _parts(in_front)
    view, background = View(camera, tiny_avatar().poses[3], motion), torch.rand(24, 24, 3)
    torso, head = portrait.torso.draw(view, code), portrait.head.draw(view, code)
    assert float(torso.alpha.mean()) > 0.05 and float(head.alpha.mean()) > 0.01
    expected = (
        torso.over(head.over(background)) if in_front else head.over(torso.over(background))
    )  # the two differ where both are half there
    layer = portrait.layer(view, code)
    torch.testing.assert_close(layer.over(background), expected, atol=1e-6, rtol=0)
    other = head.over(torso.over(background)) if in_front else torso.over(head.over(background))
    assert float((other - expected).abs().max()) > 1e-3
    torch.testing.assert_close(layer.alpha, 1 - (1 - torso.alpha) * (1 - head.alpha), atol=1e-6, rtol=0)
    picture = portrait.picture(view, code, background)
    assert int((picture.int() - (expected * 255).round().int()).abs().max()) <= 1


def _parts(in_front: bool):  # type: ignore[no-untyped-def]
    avatar = with_field(in_front)
    code = torch.randn(avatar.portrait.head.field.config.conditions.code_dim)
    return avatar.portrait, avatar.camera, code, torch.eye(2, 3)


def test_the_torso_is_told_the_pose() -> None:
    """Another pose of the head is another picture of the torso, though its rays are the same."""
    portrait, camera, code, motion = _parts(False)
    poses = tiny_avatar().poses
    one, other = (portrait.torso.draw(View(camera, poses[i], motion), code).color for i in (0, 12))
    assert float((one - other).abs().max()) > 1e-4


def test_an_avatar_keeps_both_fields(tmp_path: Path) -> None:
    """Saved and loaded, a torso field renders the same frames; an avatar with a plate still loads."""
    avatar = with_field(in_front=True, follows=True)
    silence = np.zeros((2, 16, 29), np.float32)
    before = Engine(avatar, torch.device("cpu")).render(silence).frames[:]
    avatar.save(tmp_path / "me")
    loaded = Avatar.load(tmp_path / "me")
    assert isinstance(loaded.portrait.torso, TorsoField)
    assert loaded.portrait.torso.config == TorsoFieldConfig(True, True)
    assert np.array_equal(Engine(loaded, torch.device("cpu")).render(silence).frames[:], before)
    clear = Engine(loaded, torch.device("cpu")).render(silence, background="transparent").frames[:]
    assert clear.shape == (2, 24, 24, 4)
    tiny_avatar("adnerf").save(tmp_path / "plate")
    Avatar.load(tmp_path / "plate")


def test_sparse_is_for_radiance_fields() -> None:
    """An engine sets head and torso to sparse, and refuses to where nothing is marched."""
    engine = Engine(with_field(), torch.device("cpu"), sparse=True)
    assert engine.renderer.portrait.head.field.sparse and engine.renderer.portrait.torso.field.sparse
    assert not engine.avatar.portrait.head.field.sparse and not engine.avatar.portrait.torso.field.sparse
    clip = engine.render(np.zeros((1, 16, 29), np.float32))
    assert clip.frames[:].shape == (1, 24, 24, 3)
    with pytest.raises(ValueError, match="sparse: only radiance fields"):
        Engine(tiny_avatar("nldf"), torch.device("cpu"), sparse=True)


@pytest.mark.parametrize(
    ("where", "value", "word"),
    [
        (("config", "conditions", "head_pose"), 0, "head's network"),
        (("config", "conditions", "audio_code"), 32, "head's conditions"),
        (("stands", "in_front"), 3, "in_front"),
        (("system",), "nerf", "system"),
    ],
)
def test_a_torso_that_does_not_fit_its_head_is_refused(
    tmp_path: Path, where: tuple[str, ...], value: object, word: str
) -> None:
    """A torso's network that is a head's, of another code or unknown ends in a message about avatar.json."""
    with_field().save(tmp_path / "me")
    path = tmp_path / "me" / "avatar.json"
    info = json.loads(path.read_text())
    entry = info["torso"]["field"]
    for key in where[:-1]:
        entry = entry[key]
    entry[where[-1]] = value
    path.write_text(json.dumps(info))
    with pytest.raises(FileProblem, match=word):
        Avatar.load(tmp_path / "me")
