"""Cameras, the head's region, the torso plate, and how they make a frame."""

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Bounds, RayColors, Rays
from nldf_engine.rendering.layer import Layer, View, frame_rays, to_uint8
from nldf_engine.rendering.region import HeadRegion, plane_points
from nldf_engine.rendering.torsos import pose_features
from nldf_engine.systems.common.torso import TorsoPlate


def camera_at(x: float, y: float, z: float) -> torch.Tensor:
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([x, y, z])
    return pose


def test_a_scaled_camera_sees_the_same() -> None:
    """A point falls on the same share of the picture at every size, and JSON keeps the camera."""
    camera = Camera(512, 384, 900.0, 910.0, 250.0, 190.0)
    small = camera.scaled(128)
    assert (small.width, small.height) == (128, 96)
    assert small.fx / small.width == camera.fx / camera.width and small.cy / 96 == pytest.approx(190 / 384)
    assert Camera.from_json(camera.to_json()) == camera


@pytest.mark.parametrize("value", [None, {}, {"width": 1}, {"fx": "a"}])
def test_a_damaged_camera_is_refused(value: object) -> None:
    """Missing keys and values that are no numbers are named."""
    with pytest.raises(ValueError, match="camera"):
        Camera.from_json(value)


def test_impossible_cameras_and_bounds_are_refused() -> None:
    """No pixels, a negative focal length, NaN, or near behind far."""
    for arguments in ((0, 1, 1, 1, 0, 0), (1, 1, -1, 1, 0, 0), (1, 1, 1, 1, float("nan"), 0)):
        with pytest.raises(ValueError, match="Camera"):
            Camera(*arguments)
    with pytest.raises(ValueError, match="Bounds"):
        Bounds(1.0, 0.5)


def test_pixels_are_centred_at_a_half() -> None:
    """The first pixel's centre is (0.5, 0.5); rows run over x first."""
    pixels = Camera(3, 2, 1, 1, 0, 0).pixels()
    assert pixels[0].tolist() == [0.5, 0.5] and pixels[1].tolist() == [1.5, 0.5] and len(pixels) == 6


def test_the_region_selects_what_was_added_from_any_pose() -> None:
    """Rays through a marked place of the head plane are selected from another camera as well."""
    camera = Camera(32, 32, 64, 64, 16, 16)
    region = HeadRegion(0.4)
    region.clear()
    rays = frame_rays(camera, camera_at(0, 0, -0.8)[None], camera.pixels()[None])
    points = plane_points(rays.origins[0], rays.directions[0])
    disc = points.norm(dim=1) < 0.1
    region.add(rays.origins[0][disc], rays.directions[0][disc])
    region.grow(1)
    moved = frame_rays(camera, camera_at(0.05, -0.03, -0.75)[None], camera.pixels()[None])
    where = plane_points(moved.origins[0], moved.directions[0]).norm(dim=1)
    chosen = region.select(moved.origins[0], moved.directions[0])
    assert bool(chosen[where < 0.085].all()) and not bool(chosen[where > 0.14].any())


def test_a_ray_along_the_plane_meets_nothing() -> None:
    """Rays that never cross the head plane are not selected, and give no NaN."""
    region = HeadRegion(0.4)
    assert not bool(region.select(torch.tensor([[0.0, 0, -1]]), torch.tensor([[1.0, 0, 0]])).any())


def test_the_plate_under_identity_is_itself_and_moves_with_its_motion() -> None:
    """Identity shows the plate unchanged; a shift by one pixel shifts it by one pixel."""
    torch.manual_seed(0)
    plate = TorsoPlate(6, 8)
    plate.color.uniform_()
    plate.alpha.uniform_()
    camera = Camera(8, 6, 1, 1, 0, 0)
    points = camera.pixels()[None] / 8
    identity = torch.eye(2, 3)[None]
    color, alpha = plate.sample(points, identity, torch.eye(4)[None])
    torch.testing.assert_close(color.view(6, 8, 3), plate.color, atol=1e-5, rtol=0)
    torch.testing.assert_close(alpha.view(6, 8), plate.alpha, atol=1e-5, rtol=0)
    shifted = identity.clone()
    shifted[0, 0, 2] = 1 / 8
    color, _ = plate.sample(points, shifted, torch.eye(4)[None])
    torch.testing.assert_close(color.view(6, 8, 3)[:, 1:], plate.color[:, :-1], atol=1e-5, rtol=0)


def test_linear_torso_motion_is_predicted_from_the_pose() -> None:
    """Where the torso follows the head linearly, the fit finds it, and holds for new poses."""
    generator = np.random.default_rng(0)

    def poses(count: int) -> torch.Tensor:
        from scipy.spatial.transform import Rotation

        out = torch.eye(4).repeat(count, 1, 1)
        turns = Rotation.from_euler("xyz", generator.uniform(-0.2, 0.2, (count, 3))).as_matrix()
        out[:, :3, :3] = torch.from_numpy(turns).float()
        out[:, :3, 3] = torch.tensor([0, 0, -0.8]) + torch.from_numpy(generator.normal(0, 0.02, (count, 3)))
        return out

    slope = torch.from_numpy(generator.normal(0, 0.1, (7, 6))).float()
    base = torch.tensor([1.0, 0, 0, 0, 1, 0])
    known, new = poses(200), poses(20)
    plate = TorsoPlate(4, 4)
    plate.fit_motion(known, (pose_features(known) @ slope + base).view(-1, 2, 3), ridge=1e-8)
    expected = (pose_features(new) @ slope + base).view(-1, 2, 3)
    torch.testing.assert_close(plate.predict_motion(new), expected, atol=1e-3, rtol=1e-3)


def test_a_layer_over_a_picture_follows_the_over_rule() -> None:
    """color + (1 - alpha) under, per pixel; a ray's colours do the same."""
    layer = Layer(torch.full((2, 2, 3), 0.25), torch.full((2, 2), 0.5))
    assert torch.allclose(layer.over(torch.full((2, 2, 3), 0.5)), torch.tensor(0.5))
    seen = RayColors(torch.full((1, 2, 4, 3), 0.1), torch.full((1, 2), 0.5))
    assert torch.allclose(seen.over(torch.full((1, 2, 3), 0.2)), torch.tensor(0.5))


def test_only_region_rays_reach_the_field() -> None:
    """Outside of the head's region a frame is torso over background, to the bit."""
    avatar = tiny_avatar()
    portrait, camera = avatar.portrait, avatar.camera
    code = torch.zeros(portrait.head.field.config.conditions.code_dim)
    view = View(camera, avatar.poses[0], torch.eye(2, 3))
    layer, torso = portrait.layer(view, code), portrait.torso.draw(view, code)
    rays = frame_rays(camera, avatar.poses[:1], camera.pixels()[None])
    outside = ~portrait.head.region.select(rays.origins[0], rays.directions[0]).view(24, 24)
    assert 0 < int(outside.sum()) < 24 * 24
    assert torch.equal(layer.color[outside], torso.color[outside])
    assert not torch.allclose(layer.color[~outside], torso.color[~outside])


def test_small_chunks_and_bytes() -> None:
    """Rendering in small pieces changes nothing; bytes are clamped and rounded."""
    avatar = tiny_avatar("adnerf")
    code = torch.zeros(65)
    view = View(avatar.camera, avatar.poses[3], torch.eye(2, 3))
    torso = avatar.portrait.torso.draw(view, code)
    a, b = (avatar.portrait.head.draw(view, code, torso, chunk=size) for size in (7, 8192))
    torch.testing.assert_close(a.color, b.color, atol=1e-5, rtol=1e-5)
    assert to_uint8(torch.tensor([-1.0, 0.5, 0.999, 2.0])).tolist() == [0, 128, 255, 255]


def test_rays_are_cut_in_order() -> None:
    """Chunks of rays put together are the rays."""
    rays = Rays(torch.rand(2, 11, 3), torch.rand(2, 11, 3))
    parts = rays.chunks(4)
    assert [part.origins.shape[1] for part in parts] == [4, 4, 3]
    assert torch.equal(torch.cat([part.directions for part in parts], 1), rays.directions)
