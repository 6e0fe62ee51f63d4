"""The learned torso: the plate's calls, its place and its motion, and how a clip's torso is driven."""

import json
from pathlib import Path

import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.avatar import Avatar
from nldf_engine.engine import Engine
from nldf_engine.geometry.tracks import LoopedTrack, Track, open_track, smooth_motion
from nldf_engine.systems.common.torso import TorsoPlate
from nldf_engine.systems.common.torso_layer import TorsoLayer, TorsoLayerConfig

CONFIG = TorsoLayerConfig(resolutions=(4, 8), warp_resolutions=(4,), width=8)


def fitted(size: int = 24) -> tuple[TorsoLayer, TorsoPlate, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    plate = TorsoPlate(size, size)
    plate.alpha[size // 2 :, size // 4 : -size // 4] = 1
    plate.present.fill_(True)
    poses = torch.eye(4).repeat(40, 1, 1)
    poses[:, :3, 3] = torch.tensor([0, 0, -0.8]) + 0.05 * torch.randn(40, 3)
    motion = torch.eye(2, 3).repeat(40, 1, 1)
    motion[:, :, 2] = 0.02 * torch.randn(40, 2)
    layer = TorsoLayer(CONFIG)
    layer.calibrate(plate, poses, motion)
    return layer.eval(), plate, poses, motion


def grid(size: int = 24) -> torch.Tensor:
    steps = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x, y], -1).view(1, -1, 2)


def test_a_layer_is_where_the_plate_was() -> None:
    """Far from the plate's torso the layer is empty to the bit; all over the torso it is not."""
    layer, plate, poses, _ = fitted()
    color, alpha = layer.sample(grid(), torch.eye(2, 3)[None], poses[:1])
    alpha = alpha.view(24, 24)
    assert color.shape == (1, 576, 3)
    assert float(alpha.detach()[:8].abs().max()) == 0
    assert float(alpha.detach()[plate.alpha > 0].min()) > 0


def test_a_layer_moves_with_its_motion() -> None:
    """A motion by one pixel, its condition apart, moves the picture by one pixel."""
    layer, _, poses, _ = fitted()
    layer.frame_scale[-6:] = 1e6
    shifted = torch.eye(2, 3)[None].clone()
    shifted[0, 0, 2] = 1 / 24
    with torch.no_grad():
        layer.grids[0].table.mul_(100)
        still, _ = layer.sample(grid(), torch.eye(2, 3)[None], poses[:1])
        moved, _ = layer.sample(grid(), shifted, poses[:1])
    a, b = still.view(24, 24, 3)[:, :-1], moved.view(24, 24, 3)[:, 1:]
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    assert not torch.allclose(still, moved, atol=1e-2)


def test_many_frames_at_once_equal_one_by_one_and_train_every_parameter() -> None:
    """Mixed frames share one evaluation; gradients reach all grids and layers."""
    layer, _, poses, motion = fitted()
    points = grid().expand(3, -1, -1)
    color, alpha = layer.sample(points, motion[:3], poses[:3])
    for i in range(3):
        one, _ = layer.sample(points[i : i + 1], motion[i : i + 1], poses[i : i + 1])
        torch.testing.assert_close(color[i : i + 1], one, atol=1e-5, rtol=1e-4)
    (color.sum() + alpha.square().sum()).backward()
    assert [n for n, p in layer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_premultiplied_colours_are_the_samples_times_their_opacity() -> None:
    """In one operation or by the layers, frames at once have the colours and gradients of `sample`."""
    layer, _, poses, motion = fitted()
    given = grid().expand(3, -1, 2).contiguous(), motion[:3], poses[:3]
    color, alpha = layer.sample(*given)
    wanted = [color * alpha[..., None], alpha]
    learned = [p for p in layer.parameters() if p.requires_grad]
    want = torch.autograd.grad(wanted[0].square().sum() + alpha.sum(), learned, allow_unused=True)
    for backend in ("native", "reference"):
        layer.backend = backend
        got = layer.premultiplied(given[0], layer.frames_of(*given[1:]))
        loss = got[0].square().sum() + got[1].sum()
        gradients = torch.autograd.grad(loss, learned, allow_unused=True)
        for ours, expected in zip((*got, *gradients), (*wanted, *want), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_torso_out_of_sight_is_empty() -> None:
    """A motion that carries the torso out of the frame leaves it transparent, in one frame or in many."""
    layer, _, poses, _ = fitted()
    away = torch.eye(2, 3).repeat(2, 1, 1)
    away[:, 0, 2] = 5.0
    for frames in (1, 2):
        _, alpha = layer.sample(grid().expand(frames, -1, -1), away[:frames], poses[:frames])
        assert float(alpha.detach().abs().sum()) == 0


def test_noise_on_the_frame_is_for_training_alone() -> None:
    """Two renderings are equal; two training passes are not, and the generator's seed repeats one."""
    layer, _, poses, motion = fitted()
    given = (grid(), motion[:1], poses[:1])
    assert torch.equal(layer.sample(*given)[0], layer.sample(*given)[0])
    noise = torch.Generator().manual_seed(3)
    first, second = (layer.sample(*given, noise)[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(layer.sample(*given, torch.Generator().manual_seed(3))[0], first)


def layered(tmp_path: Path) -> Path:
    avatar = tiny_avatar()
    layer, _, _, motion = fitted()
    avatar.portrait.torso = layer
    avatar.torso_motion = motion
    avatar.save(tmp_path / "me")
    return tmp_path / "me"


def test_an_avatar_keeps_its_layer_and_its_torso_track(tmp_path: Path) -> None:
    """Saved and loaded it renders the same; a layer of absurd size is refused."""
    path = layered(tmp_path)
    avatar = Avatar.load(path)
    assert isinstance(avatar.portrait.torso, TorsoLayer) and avatar.portrait.torso.config == CONFIG
    assert avatar.torso_motion is not None and avatar.torso_motion.shape == (40, 2, 3)
    frames = Engine(avatar, torch.device("cpu")).render(torch.zeros(3, 16, 29)).frames[:]
    assert frames.shape == (3, 24, 24, 3)
    info = json.loads((path / "avatar.json").read_text())
    info["torso"]["layer"]["width"] = 10**9
    (path / "avatar.json").write_text(json.dumps(info))
    with pytest.raises(Exception, match="width"):
        Avatar.load(path)


def test_the_engine_drives_the_torso_by_its_track_by_hand_or_by_the_poses(tmp_path: Path) -> None:
    """The avatar's own track brings its torso's; foreign poses predict it; given motion is taken as it is."""
    engine = Engine.load(layered(tmp_path))
    avatar, poses = engine.avatar, engine.avatar.poses
    assert avatar.torso_motion is not None
    silence = torch.zeros(50, 16, 29)
    tracked = engine.render(silence).frames.scene.motions
    own = LoopedTrack.of(Track(poses, avatar.eye_openness, avatar.torso_motion))
    torch.testing.assert_close(tracked, own.at(torch.arange(50)).torso)
    torch.testing.assert_close(tracked[:40], avatar.torso_motion)
    predicted = engine.render(silence, poses.clone()).frames.scene.motions
    expected = smooth_motion(avatar.portrait.torso.predict_motion(poses), 3)
    torch.testing.assert_close(predicted[:40], expected)
    given = torch.eye(2, 3).repeat(50, 1, 1)
    assert torch.equal(engine.render(silence, torso=given).frames.scene.motions, given)
    with pytest.raises(ValueError, match="torso"):
        engine.render(silence, torso=given[:3])


def test_another_speakers_torso_track_is_not_taken(tmp_path: Path) -> None:
    """A dataset's torso counts from its own first look: it serves where the poses are the avatar's own."""
    from safetensors.torch import save_file

    avatar = tiny_avatar()
    motion = torch.eye(2, 3).repeat(40, 1, 1)
    pixels = motion.clone()
    pixels[:, 0, 2] = 12.0
    for name, poses in (("own", avatar.poses), ("other", avatar.poses.flip(0).contiguous())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text('{"size": [24, 24]}')
        save_file({"poses": poses, "torso": pixels}, tmp_path / name / "track.safetensors")
    foreseen = torch.full((2, 3), 7.0)
    track = Track(avatar.poses, avatar.eye_openness, motion)

    def torso_of(spec: object) -> torch.Tensor:
        driven = open_track(spec, track, lambda of: foreseen.repeat(len(of), 1, 1))  # type: ignore[arg-type]
        return driven(torch.arange(30)).torso

    assert float(torso_of(tmp_path / "own")[0, 0, 2]) == 0.5
    assert torch.equal(torso_of(tmp_path / "other")[3], foreseen)
    assert torch.equal(torso_of(avatar.poses)[3], foreseen)
    assert torch.equal(torso_of("still")[3], motion[0])


def test_smoothing_keeps_what_is_still_and_calms_what_jumps() -> None:
    """A constant motion stays; a single jerk is spread out; the length stays."""
    still = torch.eye(2, 3).repeat(9, 1, 1)
    torch.testing.assert_close(smooth_motion(still, 2.0), still)
    jerk = still.clone()
    jerk[4, 0, 2] = 1.0
    calm = smooth_motion(jerk, 2.0)
    assert calm.shape == jerk.shape and 0.1 < float(calm[4, 0, 2]) < 0.3
    assert torch.equal(smooth_motion(jerk, 0), jerk)
