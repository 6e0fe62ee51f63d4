"""DFRF's checkpoints: the named arrays compute in our head space what theirs compute (`foreign_dfrf`)."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foreign_dfrf import (
    Array,
    between,
    convolve,
    encode,
    linear,
    norm,
    random_networks,
    rectified,
    save_networks,
    sigmoid,
    softened,
    their_map,
    their_place,
    their_sample,
)
from foreign_networks import FLIP, their_fine_depths, their_ray, turned
from nldf_engine import ops
from nldf_engine.base.errors import FileProblem
from nldf_engine.rendering.fields import Bounds, Rays
from nldf_engine.systems.dfrf.references import References
from nldf_engine.systems.dfrf.released import NOTICE, SHAPES, import_field, named_arrays, read_checkpoint

SIDE, FOCAL = 16, 30.0
TURN = np.diag([1.0, -1, -1, 1])
PARTS = {"coarse": "network_fn_state_dict", "fine": "network_fine_state_dict"}


def scene(references: int = 4) -> tuple[list[Array], list[Array]]:
    """Pictures [S, S, 3] and poses of theirs."""
    draw = np.random.default_rng(0)
    matrices = [turned(tuple(draw.uniform(-0.3, 0.3, 3)), (0.05 * k, -0.03, 0.8)) for k in range(references)]
    return [draw.uniform(size=(SIDE, SIDE, 3)) for _ in range(references)], matrices


def samples(count: int = 12) -> tuple[Array, Array, Array]:
    draw = np.random.default_rng(1)
    views = draw.normal(size=(count, 3))
    code = draw.normal(size=64)
    return draw.uniform(-0.15, 0.15, (count, 3)), views / np.linalg.norm(views, axis=1, keepdims=True), code


def our_map(arrays: dict[str, torch.Tensor], picture: Array, pose: Array) -> Array:
    """The features of a picture by the named arrays."""
    part = {key.removeprefix("extractor."): value for key, value in arrays.items() if "extractor." in key}
    place = np.broadcast_to(encode(pose[:3, 3], 5), (SIDE, SIDE, 33))
    hidden = rectified(convolve(part, "conv1.0", np.concatenate([encode(picture, 5), place], -1)))
    return linear(part, "fc", rectified(convolve(part, "conv2.0", hidden)))


def our_sample(
    arrays: dict[str, torch.Tensor], part: str, point: Array, view: Array, code: Array, maps: list[Array],
    poses: list[Array],
) -> tuple[Array, float]:  # fmt: skip
    """A sample by the named arrays in our head space; a place is x, y in widths, a pixel's centre at 1/2."""

    def under(name: str) -> dict[str, torch.Tensor]:
        mine = {key: value for key, value in arrays.items() if key.startswith(f"{name}.")}
        return {key.removeprefix(f"{name}."): value for key, value in mine.items()}

    warp, fusion, field = under("position_warp"), under("fusion"), under(part)
    field = {key.replace(".linear.", "."): value for key, value in field.items()}
    seen = []
    for features, pose in zip(maps, poses, strict=True):
        x, y, z = pose[:3, :3].T @ (point - pose[:3, 3])
        place = np.array([SIDE / 2 + 0.5 + FOCAL * x / z, SIDE / 2 + 0.5 + FOCAL * y / z])
        nearest = np.rint(np.clip(place, 0.5, SIDE - 0.5) - 0.5)
        at = features[int(nearest[1]), int(nearest[0])]
        hidden = rectified(linear(warp, "mlp.0", np.concatenate([encode(point, 10), code, at])))
        hidden = linear(warp, "mlp.4", rectified(linear(warp, "mlp.2", hidden)))
        moved = np.clip(nearest + 0.5 + 10 * np.clip(hidden, -1, 1), 0.5, SIDE - 0.5)
        told = (np.trunc(moved - 0.5) + 0.5) / SIDE
        seen.append(np.concatenate([between(features, moved[::-1] - 0.5), told]))
    looked = np.stack(seen)
    own = np.broadcast_to(encode(point, 10), (len(looked), 63))
    small = linear(fusion, "fc6", rectified(linear(fusion, "fc1.0", looked)))
    inputs = rectified(linear(fusion, "fc7.0", np.concatenate([looked, own, small], 1)), 0.01)
    inputs = norm(fusion, "norm_input", inputs)
    keys, values, slots = linear(fusion, "to_k", inputs), linear(fusion, "to_v", inputs), fusion["slots_mu"]
    slots = slots.double().numpy()
    for _ in range(2):
        likeness = linear(fusion, "to_q", norm(fusion, "norm_slots", slots)) @ keys.T / 128**0.5
        weights = np.exp(likeness) / np.exp(likeness).sum(0) + 1e-8
        found = (weights / weights.sum(1, keepdims=True)) @ values
        cell = torch.nn.GRUCell(128, 128).double()
        cell.load_state_dict({key[4:]: value for key, value in fusion.items() if key.startswith("gru.")})
        with torch.no_grad():
            slots = cell(torch.from_numpy(found), torch.from_numpy(slots)).numpy()
        slots = softened(fusion, slots)
    inputs = np.concatenate([slots.reshape(-1), encode(point, 10), code])
    hidden = inputs
    for i in range(8):
        hidden = rectified(linear(field, f"pts_linears.{i}", hidden))
        hidden = np.concatenate([inputs, hidden]) if i == 4 else hidden
    branch = np.concatenate([hidden, encode(view, 4)])
    for i in range(3):
        branch = rectified(linear(field, f"views_linears.{i}", branch))
    density = float(rectified(linear(field, "alpha_linear", hidden))[0])
    return sigmoid(linear(field, "rgb_linear", branch)), density


def noise_of(seed: int) -> Array:
    return torch.randn(2, 128, generator=torch.Generator().manual_seed(seed)).double().numpy()


@pytest.mark.parametrize("part", PARTS)
def test_named_arrays_agree(part: str, tmp_path: Path) -> None:
    """Maps, colours and densities by the named arrays are theirs, at mirrored points of a mirrored scene."""
    networks = random_networks(SHAPES)
    arrays = named_arrays(read_checkpoint(save_networks(tmp_path / "x_head.tar", networks)), SIDE, seed=3)
    pictures, matrices = scene()
    theirs = [their_map(networks, p, m) for p, m in zip(pictures, matrices, strict=True)]
    poses = [TURN @ m @ TURN for m in matrices]
    ours = [our_map(arrays, p, m) for p, m in zip(pictures, poses, strict=True)]
    assert max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)) < 1e-12
    points, views, code = samples()
    colors, densities = [], []
    for point, view in zip(points, views, strict=True):
        want = their_sample(networks, PARTS[part], point, view, code, theirs, matrices, FOCAL, noise_of(3))
        got = our_sample(arrays, part, point * FLIP, view * FLIP, code, ours, poses)
        # Arrays are float32: what is divided by ten or gathered into a bias is rounded to it.
        assert np.abs(got[0] - want[0]).max() < 1e-5
        assert abs(got[1] - want[1]) < 1e-5 * max(1, abs(want[1]))
        colors.append(want[0])
        densities.append(want[1])
    assert np.ptp(colors) > 0.2 and np.ptp(densities) > 0.1  # something to get wrong
    unmirrored = our_sample(arrays, part, points[0], views[0], code, ours, poses)[0]
    assert np.abs(unmirrored - colors[0]).max() > 1e-3


def test_everything_counts(tmp_path: Path) -> None:
    """Warp, fusion's noise, places and references each change what their networks say: none is left out."""
    networks = random_networks(SHAPES)
    pictures, matrices = scene()
    maps = [their_map(networks, p, m) for p, m in zip(pictures, matrices, strict=True)]
    points, views, code = samples(1)

    def told(changed: dict[str, Any], seed: int = 3, whole: bool = True, count: int = 4) -> Array:
        given = (points[0], views[0], code, maps[:count], matrices[:count], FOCAL, noise_of(seed), whole)
        return their_sample(networks | changed, PARTS["fine"], *given)[0]

    usual = told({})
    still = {key: 0 * value for key, value in networks["position_warp_state_dict"].items()}
    blind = dict(networks["attention_state_dict"])
    for layer in ("fc1.0.weight", "fc7.0.weight"):
        blind[layer] = blind[layer].clone()
        blind[layer][:, 128:130] = 0
    changes = [
        told({"position_warp_state_dict": still}), told({"attention_state_dict": blind}), told({}, seed=4),
        told({}, whole=False), told({}, count=2),
    ]  # fmt: skip
    assert min(np.abs(changed - usual).max() for changed in changes) > 1e-4


def test_names_and_attention(tmp_path: Path) -> None:
    """Every parameter has one name; `feature_linear` is left out; the optimiser tells of the attention."""
    networks = random_networks(SHAPES)
    path = tmp_path / "x_head.tar"
    read = read_checkpoint(save_networks(path, networks))
    arrays = named_arrays(read)
    assert read.smoothed and read.step == 400_000
    assert not read_checkpoint(save_networks(path, networks, 90_000, smoothed=False)).smoothed
    assert not any("feature_linear" in name or "logsigma" in name for name in arrays)
    assert arrays["coarse.pts_linears.5.linear.weight"].shape == (256, 639)
    assert arrays["fusion.slots_mu"].shape == (2, 128)
    assert not torch.equal(arrays["fusion.slots_mu"], named_arrays(read, seed=1)["fusion.slots_mu"])
    place = networks["attention_state_dict"]["fc1.0.weight"][:, 128:130]
    assert torch.equal(arrays["fusion.fc1.0.weight"][:, 128:130], 512 * place.flip(1))  # 512 by default
    assert "512 x 512" in NOTICE


@pytest.mark.parametrize("places", ["exact", "whole"])
def test_the_field_computes_what_theirs_does(places: str, tmp_path: Path) -> None:
    """The imported `ReferenceField` gives their program's colours and densities, from points that leave the
    pictures as well; and with places as the paper has them, not rounded to pixels, the paper's."""
    networks = random_networks(SHAPES)
    # Offsets that stay within the small pictures and, where places are whole, some that reach the limit.
    gain, reach = {"exact": (0.05, 0.4), "whole": (1.0, 2.0)}[places]
    for part in ("weight", "bias"):
        networks["position_warp_state_dict"][f"mlp.4.{part}"] *= gain
    draw = np.random.default_rng(0)
    matrices = [turned(tuple(draw.uniform(-0.05, 0.05, 3)), (0.02 * k, -0.03, 0.8)) for k in range(4)]
    pictures = [(255 * draw.uniform(size=(SIDE, SIDE, 3))).astype(np.uint8) for _ in range(4)]
    view = [FOCAL / SIDE, FOCAL / SIDE, 0.5 + 0.5 / SIDE, 0.5 + 0.5 / SIDE]
    poses = torch.from_numpy(np.stack([TURN @ m @ TURN for m in matrices])).float()
    given = References(torch.from_numpy(np.stack(pictures)), poses, torch.tensor([view] * 4))
    checkpoint = read_checkpoint(save_networks(tmp_path / "x_head.tar", networks))
    field = import_field(checkpoint, given, Bounds(0.5, 1.1, radius=1.0), seed=3)
    assert field.config.places == "whole" and field.config.sampling == "depths"
    field.config = dataclasses.replace(field.config, places=places)
    maps = [their_map(networks, p / 255, m) for p, m in zip(pictures, matrices, strict=True)]
    points, views, code = samples()
    points = reach * points
    to = lambda x: torch.from_numpy(x).float()  # noqa: E731
    seen_places = [their_place(p, m, FOCAL, SIDE) for p in points for m in matrices]
    outside = np.isin(seen_places, [0, SIDE - 1]).any(1).mean()
    assert outside == 0 if places == "exact" else 0.05 < outside < 0.9
    for part, name in PARTS.items():
        with torch.no_grad():
            rgb, density, _ = field.evaluate(
                getattr(field, part), to(points * FLIP)[None, :, None], to(views * FLIP)[None],
                to(code)[None], None, field.context(),
            )  # fmt: skip
        for k, (point, seen) in enumerate(zip(points, views, strict=True)):
            given = (point, seen, code, maps, matrices, FOCAL, noise_of(3), places == "whole")
            color, dense = their_sample(networks, name, *given)
            assert np.abs(rgb[0, k, 0].numpy() - color).max() < 1e-5
            assert abs(float(density[0, k, 0]) - dense) < 1e-5 * max(1, dense)


def dense(networks: dict[str, Any]) -> dict[str, Any]:
    """The same with fields that are empty here and there, and whose frequencies count by their
    length, as in a fitted field: otherwise float32's rounding of a point is seen in the pixel."""
    fall = torch.cat([torch.ones(3), *(torch.full((6,), 2.0**-level) for level in range(10))])
    for name in PARTS.values():
        state = networks[name]
        state["nerf_model.alpha_linear.bias"] -= 2
        for layer in (0, 5):
            state[f"nerf_model.pts_linears.{layer}.weight"][:, 256 : 256 + len(fall)] *= fall
    # Coarse and fine hold the same tensors.
    networks["attention_state_dict"]["fc7.0.weight"][:, 130 : 130 + len(fall)] *= fall
    networks["position_warp_state_dict"]["mlp.0.weight"][:, : len(fall)] *= fall
    return networks


def test_pixels_are_theirs(tmp_path: Path) -> None:
    """Pixels as their program renders them, without random numbers: samples in depth, two passes, places in
    references counted in whole pixels, the background in the last sample."""
    networks = dense(random_networks(SHAPES))
    draw = np.random.default_rng(2)
    matrices = [turned(tuple(draw.uniform(-0.1, 0.1, 3)), (0.04 * k, -0.03, 0.8)) for k in range(4)]
    pictures = [(255 * draw.uniform(size=(SIDE, SIDE, 3))).astype(np.uint8) for _ in range(4)]
    view = [FOCAL / SIDE, FOCAL / SIDE, 0.5 + 0.5 / SIDE, 0.5 + 0.5 / SIDE]
    poses = torch.from_numpy(np.stack([TURN @ m @ TURN for m in matrices])).float()
    given = References(torch.from_numpy(np.stack(pictures)), poses, torch.tensor([view] * 4))
    checkpoint = read_checkpoint(save_networks(tmp_path / "x_head.tar", networks))
    near, far = 0.55, 1.05
    field = import_field(checkpoint, given, Bounds(near, far, radius=1.0), seed=3)
    maps = [their_map(networks, p / 255, m) for p, m in zip(pictures, matrices, strict=True)]
    code, matrix = draw.normal(size=64), turned((0.05, -0.1, 0.02), (0.02, 0.01, 0.8))
    pixels = [(0, 0), (8, 8), (5, 11)]
    behind = draw.uniform(size=(len(pixels), 3))

    def march(part: str, origin: Array, ray: Array, depths: Array) -> tuple[Array, Array]:
        unit, seen = ray / np.linalg.norm(ray), []
        for depth in depths:
            at = (origin + depth * ray, unit, code, maps, matrices, FOCAL, noise_of(3))
            seen.append(their_sample(networks, PARTS[part], *at))
        density = np.array([one[1] for one in seen])
        alpha = 1 - np.exp(-(density + 1e-6) * np.append(np.diff(depths), 1e10) * np.linalg.norm(ray))
        return np.stack([one[0] for one in seen]), alpha * np.cumprod(np.append(1.0, 1 - alpha + 1e-10))[:-1]

    theirs, left = [], []
    for pixel, color in zip(pixels, behind, strict=True):
        origin, ray = their_ray({"focal_len": FOCAL, "cx": SIDE / 2, "cy": SIDE / 2}, matrix, *pixel)
        depths = np.linspace(near, far, 32)
        depths = their_fine_depths(depths, march("coarse", origin, ray, depths)[1], 64)
        rgb, mass = march("fine", origin, ray, depths)
        theirs.append(mass @ np.vstack([rgb[:-1], color]))
        left.append(mass[-1])
    assert 0.01 < min(left) < max(left) < 0.5 and np.ptp(theirs) > 0.1  # something to get wrong
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-6)):
        field = field.to(dtype)
        field.references.poses = torch.from_numpy(np.stack([TURN @ m @ TURN for m in matrices])).to(dtype)
        to = lambda x, kind=dtype: torch.from_numpy(np.asarray(x)).to(kind)  # noqa: E731
        pose, camera = (
            to(TURN @ matrix @ TURN)[None],
            to([FOCAL, FOCAL, SIDE / 2 + 0.5, SIDE / 2 + 0.5])[None],
        )
        rays = Rays(*ops.generate_rays(pose, camera, to(pixels)[None] + 0.5), pose[:, :3, 2])
        with torch.no_grad():
            seen = field(rays, to(code)[None])
        got = seen.over(to(behind)[None])[0].double().numpy()
        assert np.abs(got - theirs).max() < tolerance
        assert np.abs(1 - seen.opacity[0].double().numpy() - left).max() < tolerance
    field.config = dataclasses.replace(field.config, places="exact")
    with torch.no_grad():
        exact = field(rays, to(code)[None]).over(to(behind)[None])[0].numpy()
    assert np.abs(exact - theirs).max() > 1e-3


class Writes:
    """Unpickling an object of this class would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_wrong_files(tmp_path: Path) -> None:
    """Whatever is no DFRF checkpoint is refused with what was found; nothing in it is executed."""
    path = tmp_path / "x_head.tar"

    def refused(networks: dict[str, Any], match: str, **more: Any) -> None:
        with pytest.raises(FileProblem, match=match):
            read_checkpoint(save_networks(path, networks, **more))

    networks = random_networks(SHAPES)
    refused(networks, "refused: it holds more than tensors", extra=Writes(tmp_path / "mark"))
    assert not (tmp_path / "mark").exists()
    refused({k: v for k, v in networks.items() if k != "unet_state_dict"}, "it holds no unet_state_dict")

    def changed(part: str, key: str, value: torch.Tensor) -> dict[str, Any]:
        return {**networks, part: {**networks[part], key: value}}

    refused(
        changed("position_warp_state_dict", "mlp.2.bias", torch.full((32,), torch.nan)),
        r"position_warp_state_dict: mlp.2.bias holds NaN",
    )
    refused(
        changed("unet_state_dict", "conv1.0.weight", torch.zeros(64, 99, 3, 3)),
        r"conv1.0.weight has the shape \[64, 99, 3, 3\], and DFRF's has \[64, 66, 3, 3\]",
    )
    refused(
        changed("network_fn_state_dict", "extra", torch.zeros(1)),
        r"extra has the shape \[1\], and DFRF's has nothing",
    )
    refused(
        changed("network_fine_state_dict", "slot_att.fc6.bias", torch.zeros(32)),
        "its fusion is not one: fc6.bias of network_fine_state_dict",
    )
    refused(networks, "optimizer_audatt_state_dict holds no state", optimizer_audatt_state_dict={})
    whole = save_networks(path, networks).read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(FileProblem, match=r"refused|can't be read"):
        read_checkpoint(path)
