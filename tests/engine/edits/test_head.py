"""Edited head motion: what is added, what is held, what the picture does instead, what is said."""

import re
import warnings

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, HeadEdit, HeadRange, PoseWarning, curve_of
from nldf_engine.engine.edits.head import hold_motion, lean, motion_range, picture_of
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.rotations import head_numbers, poses_of
from nldf_engine.geometry.tracks import Track

CAMERA = Camera(64, 48, 120.0, 110.0, 33.0, 22.0)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny_avatar(), torch.device("cpu"))


def driven(engine: Engine, edit: HeadEdit | None, frames: int = 40, poses: object = None) -> Track:
    from nldf_engine.engine.edits import Editor

    return Editor(engine.renderer, Edit(edit), poses).track(torch.arange(frames))


def test_offsets_and_curves_add_up(engine: Engine) -> None:
    """Constants and a curve's columns are added to the track's own numbers, frame by frame."""
    curve = curve_of({"time": [0.0, 1.0], "yaw": [0.0, 5.0], "x": [0.01, 0.01]})
    edit = HeadEdit(yaw=1.0, roll=-2.0, curve=curve, limit="off")
    moved = head_numbers(driven(engine, edit).poses) - head_numbers(driven(engine, None).poses)
    assert moved[0].tolist() == pytest.approx([1, 0, -2, 0.01, 0, 0], abs=1e-4)
    assert moved[10, 0] == pytest.approx(1 + 2, abs=1e-4) and moved[39, 0] == pytest.approx(6, abs=1e-4)


def test_without_an_edit_nothing_changes(engine: Engine) -> None:
    """An empty head edit in range gives the track itself, torso included, and no picture is moved."""
    plain, edited = driven(engine, None), driven(engine, HeadEdit(limit="off"))
    torch.testing.assert_close(edited.poses, plain.poses, atol=1e-6, rtol=0)
    torch.testing.assert_close(edited.torso, plain.torso, atol=1e-6, rtol=0)
    assert edited.views is None


def test_a_held_range_is_the_identity_inside_smooth_at_its_ends_and_bounded() -> None:
    """Inside nothing changes; beyond, values rise with slope one at first and rest 15 % beyond the range."""
    numbers = torch.zeros(400, 6, dtype=torch.float64)
    numbers[:, 0] = torch.linspace(-10, 10, 400)
    numbers[:, 5] = 0.8
    area = HeadRange.of(poses_of(numbers))
    low, high = float(area.low[0]), float(area.high[0])
    assert low == pytest.approx(-9.95, abs=0.06) and high == pytest.approx(9.95, abs=0.06)
    asked = torch.zeros(4001, 6, dtype=torch.float64)
    asked[:, 0] = torch.linspace(-200, 200, 4001)
    held = area.hold(asked)[:, 0]
    inside = (asked[:, 0] >= low) & (asked[:, 0] <= high)
    assert torch.equal(held[inside], asked[inside, 0])
    slope = (held[1:] - held[:-1]) / 0.1
    assert float(slope.min()) >= 0 and float((slope[1:] - slope[:-1]).abs().max()) < 0.05
    assert float(held.max()) == pytest.approx(high + 0.15 * (high - low), rel=1e-6)
    rest = area.shrunk().hold(asked)[:, 0]
    assert float(rest.max()) == pytest.approx(high, rel=1e-6)


def test_the_moved_picture_shows_the_head_where_it_is_asked_for() -> None:
    """Points of a flat head at z = 0 fall exactly where a camera sees them at the asked place."""
    torch.manual_seed(0)
    known = torch.zeros(6, 6, dtype=torch.float64)
    known[:, 5] = 0.7
    asked = known.clone()
    asked[:, 3:] += torch.randn(6, 3, dtype=torch.float64) * torch.tensor([0.05, 0.05, 0.1])
    views = picture_of(CAMERA, asked, known) * CAMERA.width
    flat = torch.cat([(torch.rand(6, 2, dtype=torch.float64) - 0.5) * 0.2, torch.zeros(6, 1)], 1)

    def seen(place: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
        at = flat + place
        return intrinsics[:, :2] * at[:, :2] / at[:, 2:] + intrinsics[:, 2:]

    truth = seen(asked[:, 3:], CAMERA.intrinsics().double().expand(6, 4))
    torch.testing.assert_close(seen(known[:, 3:], views), truth, atol=1e-5, rtol=0)


def test_a_leaning_torso_keeps_to_neck_and_frame() -> None:
    """The torso's neck moves as the head's picture does, and the frame's lower edge stays where it is."""
    numbers = torch.tensor([[0.0, 0, 0, 0.01, -0.02, 0.8]], dtype=torch.float64)
    asked = numbers + torch.tensor([[0.0, 0, 0, 0.05, -0.04, 0.0]], dtype=torch.float64)
    views = picture_of(CAMERA, asked, numbers)
    affine = lean(CAMERA, views, poses_of(numbers), poses_of(numbers))[0]
    bottom = torch.tensor([0.3, 48 / 64], dtype=torch.float64)
    torch.testing.assert_close(affine[:, :2] @ bottom + affine[:, 2], bottom)
    neck = torch.tensor([0.0, 0.10, 0.03], dtype=torch.float64)

    def seen(intrinsics: torch.Tensor) -> torch.Tensor:
        at = neck + numbers[0, 3:]
        return intrinsics[:2] * at[:2] / at[2] + intrinsics[2:]

    before, after = seen(CAMERA.intrinsics().double() / CAMERA.width), seen(views[0])
    assert float((after - before).norm()) > 0.05
    torch.testing.assert_close(affine[:, :2] @ before + affine[:, 2], after, atol=1e-6, rtol=0)


def test_torso_motions_are_held_in_their_own_range() -> None:
    """A predicted motion within the trained ones is left alone; one far beyond comes to rest near them."""
    torch.manual_seed(0)
    trained = torch.eye(2, 3).repeat(300, 1, 1) + 0.01 * torch.randn(300, 2, 3)
    inside = trained[:50] * 0.3 + 0.7 * trained.mean(0)
    torch.testing.assert_close(hold_motion(inside, motion_range(trained)), inside, atol=1e-6, rtol=0)
    wild = torch.eye(2, 3)[None] * 3 + 1
    held = hold_motion(wild, motion_range(trained))
    assert float((held - trained.mean(0)).abs().max()) < 0.08


def test_poses_beyond_are_told_once_and_held_where_asked(engine: Engine) -> None:
    """One warning names value, range and share of the frames; clamp holds, off neither says nor holds."""
    features = np.zeros((20, 16, 29), np.float32)
    with pytest.warns(PoseWarning) as said:
        engine.render(features, edit=Edit(HeadEdit(yaw=30)))
    assert len(said) == 1
    text = str(said[0].message)
    assert re.search(r"yaw reaches 30\.0 degrees \(trained: -2\.0 to 2\.0\) in 100 % of the frames", text), (
        text
    )
    with pytest.warns(PoseWarning, match="held there"):
        clip = engine.render(features, edit=Edit(HeadEdit(yaw=30, limit="clamp")))
    yaw = head_numbers(clip.frames.scene.poses)[:, 0]
    assert float(yaw.max()) == pytest.approx(2 + 0.15 * 4, abs=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.render(features, edit=Edit(HeadEdit(yaw=30, limit="off")))
        engine.render(features, edit=Edit(HeadEdit(yaw=1)))


def test_a_field_is_never_asked_for_places_that_it_does_not_know(engine: Engine) -> None:
    """However far the head is shifted, its pose stays in range, and its picture moves by what was asked."""
    features = np.zeros((5, 16, 29), np.float32)
    with pytest.warns(PoseWarning, match="z reaches"):
        clip = engine.render(features, "still", edit=Edit(HeadEdit(shift=(0.1, 0, 0.4))))
    scene = clip.frames.scene
    place = head_numbers(scene.poses)[0, 3:]
    assert abs(float(place[2]) - 0.8) < 0.03
    view = scene.head_camera(0)
    assert view.fx == pytest.approx(engine.avatar.camera.fx * float(place[2]) / 1.2, rel=1e-3)
    own = engine.avatar.camera
    x = float(head_numbers(engine.render(features, "still").frames.scene.poses)[0, 3])
    seen = view.fx * float(place[0] / place[2]) + view.cx
    assert seen == pytest.approx(own.fx * (x + 0.1) / 1.2 + own.cx, abs=0.01)


def test_foreign_poses_come_to_the_avatars_own_place(engine: Engine) -> None:
    """With `centred` a foreign track's medians are the avatar's own, and its motion about them stays."""
    foreign = torch.zeros(40, 6, dtype=torch.float64)
    foreign[:, 0], foreign[:, 5] = 20 + torch.sin(torch.arange(40) / 5), 3.0
    got = head_numbers(driven(engine, HeadEdit(centred=True, limit="off"), poses=poses_of(foreign)).poses)
    own = head_numbers(engine.avatar.poses)
    torch.testing.assert_close(got.median(0).values, own.median(0).values, atol=1e-4, rtol=0)
    torch.testing.assert_close(got[:, 0] - got[0, 0], foreign[:, 0] - foreign[0, 0], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"yaw": float("nan")}, "yaw must be a finite number"),
        ({"smooth": -1.0}, "at least 0"),
        ({"limit": "hold"}, "limit is warn, clamp, off"),
        ({"curve": curve_of({"jaw": [1.0]})}, "no column 'jaw'"),
        ({"shift": (0.0, 1.0)}, "x, y, z"),
    ],
)
def test_edits_that_can_not_be_are_refused(fields: dict[str, object], says: str) -> None:
    """The message names the field and what was expected."""
    with pytest.raises(ValueError, match=says):
        HeadEdit(**fields)  # type: ignore[arg-type]
