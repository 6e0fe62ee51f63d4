"""The field of Gaussian landmarks: what each encoding lets a landmark do, and what rays and samples give."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nldf_engine.base.json import encode
from nldf_engine.rendering.fields import Bounds, Conditions, Rays
from nldf_engine.systems.gaussian_landmark.encoding import ENCODINGS, EncodingSizes
from nldf_engine.systems.gaussian_landmark.model import THINNED, GaussianField, GaussianFieldConfig
from nldf_engine.systems.registry import build_field, build_head

BOUNDS = Bounds(0.5, 1.0)
CHIN = 8


def field(kind: str = "gaussian", **changes: object) -> GaussianField:
    torch.manual_seed(0)
    sizes = {"resolutions": (8, 16), "width": 16, "geometry": 8, "samples": 8} | changes
    return GaussianField(GaussianFieldConfig(BOUNDS, encoding=EncodingSizes(kind), **sizes)).eval()


def rays(frames: int = 1, count: int = 40) -> Rays:
    torch.manual_seed(1)
    spread = torch.randn(frames, count, 3) * torch.tensor([0.1, 0.1, 0.0])
    directions = torch.nn.functional.normalize(torch.tensor([0.0, 0, 1]) + spread, dim=-1)
    origins = torch.tensor([0.0, 0.02, -0.7]).expand(frames, count, 3)
    return Rays(origins.contiguous(), directions.contiguous())


def code(frames: int = 1) -> torch.Tensor:
    torch.manual_seed(2)
    return 0.06 * torch.randn(frames, 204)


@pytest.mark.parametrize("kind", ENCODINGS)
def test_every_encoding_is_learned_through(kind: str) -> None:
    """Pictures depend on landmarks, by gradients; eq. (7)'s Gaussians are fixed, eq. (8b)'s not."""
    one, landmarks = field(kind), code().requires_grad_()
    one(rays(), landmarks).color.sum().backward()
    assert landmarks.grad is not None and float(landmarks.grad.abs().max()) > 0
    learned = {name for name, _ in one.encoding.named_parameters()}
    gaussians = {"rotations", "log_scales"} if kind.startswith("gaussian") else set()
    assert learned & {"rotations", "log_scales"} == gaussians
    assert all(value.grad is not None for value in one.encoding.parameters())


@pytest.mark.parametrize("kind", ENCODINGS)
def test_a_landmark_acts_nearby_only_where_points_know_it(kind: str) -> None:
    """Moving the chin changes no point half a metre off, but for numbers of the whole frame."""
    one, points = field(kind), torch.tensor([[[[0.0, 0.05, 0.0]], [[0.0, 0.55, 0.0]]]])
    landmarks = torch.zeros(1, 68, 3)
    moved = landmarks.clone()
    moved[0, CHIN] = torch.tensor([0.0, 0.01, 0.0])
    origin, toward = torch.tensor([[0.0, 0, -0.7]]), torch.tensor([[[0.0, 0, 1], [0.0, 0, 1]]])
    with torch.no_grad():
        a, b = (one.evaluate(points, origin, toward, x.flatten(1))[0][0, :, 0] for x in (landmarks, moved))
    changed = (a != b).tolist()
    assert changed == ([True, False] if "gaussian" in kind or kind == "isotropic" else [True, True])


def test_the_encoding_is_eq_8a() -> None:
    """Weight and depth of one landmark, by hand: a turned Gaussian, seen along the axis from the camera."""
    one = field()
    with torch.no_grad():
        one.encoding.rotations[CHIN] = torch.tensor([0.5**0.5, 0, 0, 0.5**0.5])  # a quarter about z
        one.encoding.log_scales[CHIN] = torch.tensor([0.02, 0.04, 0.05]).log()
    landmarks, point = torch.zeros(1, 68, 3), torch.tensor([[[0.03, 0.01, 0.02]]])
    got = one.encoding.encode(point, landmarks, torch.tensor([[0.0, 0, 1.0]]), "native")[0, 0]
    blocks = got.view(7, 68)[:, CHIN]
    weight = torch.exp(torch.tensor(-0.5 * ((0.01 / 0.02) ** 2 + (0.03 / 0.04) ** 2 + (0.02 / 0.05) ** 2)))
    z = torch.tensor(0.02 / 0.2)
    waves = [z]
    for level in range(3):
        waves += [torch.sin(torch.pi * 2**level * z), torch.cos(torch.pi * 2**level * z)]
    torch.testing.assert_close(blocks, weight * torch.stack(waves), atol=1e-5, rtol=1e-4)


def test_what_is_about_a_landmark_is_carried_along() -> None:
    """A point on a landmark that moved is looked up two thirds of the way back, one far off where it is. In
    the paper, and where landmarks are numbers of the frame, nothing is carried."""
    sizes = EncodingSizes(carries=True)
    usual = torch.zeros(68, 3)
    usual[:, 0] = torch.arange(68)  # metres apart
    moved = usual[None].clone()
    moved[0, CHIN, 1] = 0.012
    points = torch.stack([moved[0, CHIN], moved[0, CHIN] + torch.tensor([0, 0.2, 0])])[None]
    axes = torch.tensor([[0.0, 0, 1]])
    for kind in ENCODINGS:
        carrying = ENCODINGS[kind](range(68), dataclasses.replace(sizes, kind=kind))
        with torch.no_grad():
            places, _ = carrying.about(points, moved, usual, axes, "native")
        back = 0.008 if "gaussian" in kind or kind == "isotropic" else 0.0
        torch.testing.assert_close(places[0, 0], points[0, 0] - torch.tensor([0, back, 0]), atol=1e-6, rtol=0)
        assert torch.equal(places[0, 1], points[0, 1])
        still, _ = ENCODINGS[kind](range(68), EncodingSizes(kind)).about(points, moved, usual, axes, "native")
        assert torch.equal(still, points)
    one = GaussianField(dataclasses.replace(field().config, encoding=sizes)).eval()
    again = build_head("gaussian-landmark", encode(one.config)).config.encoding
    assert again.carries and not EncodingSizes().carries


def test_points_about_the_mouth_know_its_shape() -> None:
    """Components are the training frames' in standard deviations, and are held; a mouth's shape is known on
    the lips and not at the chin's other side or the eyes; in the paper none is."""
    torch.manual_seed(3)
    usual = 0.02 * torch.randn(68, 3)
    opens = torch.zeros(68, 3)
    opens[48:68, 1] = torch.linspace(-1, 1, 20)
    track = usual + 0.003 * torch.randn(50, 1, 1) * opens + 1e-4 * torch.randn(50, 68, 3)
    sizes = EncodingSizes(carries=True, components=2)
    one = ENCODINGS["gaussian"](range(68), sizes)
    one.calibrate(track)
    on_lips, far = track[:, 50:51], torch.full((50, 1, 3), 0.5)
    with torch.no_grad():
        _, (plain, known) = one.about(torch.cat([on_lips, far], 1), track, usual, torch.ones(50, 3), "native")
    assert plain.shape[2] + known.shape[2] == one.point_dim == 68 * 7 + 4
    assert bool((known[:, 1] == 0).all()) and float(known[:, 0, :2].abs().max()) > 0.5
    opening = (track - usual)[:, 67, 1]
    assert abs(float(torch.corrcoef(torch.stack([known[:, 0, 0], opening]))[0, 1])) > 0.95
    codes = (track.flatten(1) - one.shapes.mean) @ one.shapes.axes
    torch.testing.assert_close(codes[:, 0].std(), torch.tensor(1.0), atol=0.02, rtol=0)
    with torch.no_grad():
        wide = one.shapes(usual[None] + 1.0 * opens, torch.ones(1, 1, 68))
    assert 3.5 < float(wide.abs().max()) < 4, "held within four standard deviations"
    assert ENCODINGS["gaussian"](range(68), EncodingSizes()).shapes is None
    with pytest.raises(ValueError, match="components: expected 0 to 36"):
        EncodingSizes(components=40)


def test_few_frames_leave_components_out() -> None:
    """Two frames have one component at most, frames without movement none that matters."""
    one = ENCODINGS["gaussian"](range(68), EncodingSizes(components=4))
    for track in (torch.randn(2, 68, 3) * 0.01, torch.zeros(5, 68, 3), torch.zeros(1, 68, 3)):
        one.calibrate(track)
        assert bool(one.shapes.axes.isfinite().all())
        codes = (track.flatten(1) - one.shapes.mean) @ one.shapes.axes
        assert float(codes.abs().max()) < 2 and bool((codes.view(-1, 2, 4)[..., 2:].abs() < 1e-3).all())


def test_segments_sum_to_the_pixel_and_frames_do_not_mix() -> None:
    """M segments have the sum of one; rays of several frames are those of each frame alone."""
    four, one = field(segments=4), field(segments=1)
    one.load_state_dict(four.state_dict())
    both, codes = rays(2), code(2)
    with torch.no_grad():
        torch.testing.assert_close(four(both, codes).color, one(both, codes).color)
        alone = four(Rays(both.origins[1:], both.directions[1:]), codes[1:])
        torch.testing.assert_close(four(both, codes).color[1:], alone.color)
        chosen = torch.tensor([3, 7, 41, 60])
        some = four.of_chosen(both, codes, chosen)
        torch.testing.assert_close(some.segments, four(both, codes).segments.flatten(0, 1)[chosen])


def test_native_and_reference_agree() -> None:
    """The kernels of grid, encoding and compositing against plain PyTorch."""
    one = field()
    with torch.no_grad():
        native = one(rays(), code())
        one.backend = "reference"
        torch.testing.assert_close(one(rays(), code()).segments, native.segments, atol=1e-5, rtol=1e-4)


def test_thinned_landmarks_keep_lips_and_lids() -> None:
    """46 of the 68: a landmark that is left out changes nothing, the chin does."""
    assert len(THINNED) == 46 == len(set(THINNED)) and CHIN in THINNED and 1 not in THINNED
    one, plain = field(thinned=True), code()
    with torch.no_grad():
        seen = one(rays(), plain).color
        for mark, changes in ((1, False), (CHIN, True)):
            other = plain.clone().view(1, 68, 3)
            other[0, mark] += 0.02
            assert torch.equal(one(rays(), other.view(1, 204)).color, seen) != changes


def test_calibration_puts_the_box_about_the_head() -> None:
    """The grid covers the region's points; scales of a frame's numbers follow its landmarks."""
    one = field("mlp")
    track = torch.randn(6, 68, 3) * 0.01 + 0.02
    conditions = Conditions(torch.zeros(6, 16, 29), torch.ones(6), landmarks=track)
    one.calibrate(torch.eye(4).expand(6, 4, 4), conditions, torch.tensor([[-0.1, -0.2], [0.1, 0.12]]))
    assert bool((one.box[0, :2] < torch.tensor([-0.1, -0.2])).all())
    assert bool((one.box[1, :2] > torch.tensor([0.1, 0.12])).all())
    scaled = one.encoding.scaled(track)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(204), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(0), torch.ones(204), atol=1e-4, rtol=0)


def test_a_configuration_comes_back_from_json() -> None:
    """As an avatar stores it; unknown encodings and sizes that can't be meant are refused."""
    config = GaussianFieldConfig(BOUNDS)
    assert build_head("gaussian-landmark", encode(config)).config == config
    for change, message in (
        ({"samples": 10}, "multiple of segments"),
        ({"samples": 4096}, "at most"),
        ({"slab": (0.1, 0.0)}, "front < back"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(config, **change)
    with pytest.raises(ValueError, match="encoding: expected one of gaussian"):
        build_field("gaussian-landmark", encode(config) | {"encoding": {"kind": "x"}})


def test_other_features_are_refused() -> None:
    """An avatar's audio net takes one front-end."""
    with pytest.raises(ValueError, match=r"audio: expected features \[T, 16, 29\]"):
        field().encode_frames(Conditions(torch.zeros(2, 16, 30), torch.ones(2)))
