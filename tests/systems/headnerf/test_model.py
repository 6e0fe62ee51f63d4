"""The head: whole pictures at any size, in front of any background, saved and loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import sha256
from nldf_engine.base.json import encode
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, LookEdit
from nldf_engine.rendering.layer import Layer
from nldf_engine.systems.headnerf.model import check_picture
from nldf_engine.systems.registry import build_field, build_head, find_system
from systems.headnerf.heads import camera, config, poses_of, small_avatar, small_head, view


def test_a_picture_has_premultiplied_colours() -> None:
    """[H, W, 3] and [H, W] at the head's own size, no colour without opacity."""
    head = small_head()
    layer = head.draw(view(), torch.randn(head.driver.dim))
    assert layer.color.shape == (32, 32, 3) and layer.alpha.shape == (32, 32)
    assert bool((layer.color <= layer.alpha[..., None] + 1e-6).all())


def test_frames_of_one_batch_are_those_drawn_alone() -> None:
    """What is trained, several frames at once, is what is rendered."""
    head = small_head()
    poses, codes = poses_of(3), torch.randn(3, head.driver.dim)
    with torch.no_grad():
        color, alpha = head.picture(camera(), poses, codes)
        alone = [head.picture(camera(), poses[k : k + 1], codes[k : k + 1]) for k in range(3)]
    torch.testing.assert_close(color, torch.cat([one for one, _ in alone]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alpha, torch.cat([one for _, one in alone]), atol=1e-5, rtol=1e-5)


def test_rays_beside_the_head_show_the_empty_vector() -> None:
    """A code changes nothing where no ray may meet the head: far from its region pictures are equal."""
    head = small_head(size=64, stages=1, codes=small_head().config.codes)
    head.region.clear()
    head.region.occupancy[46:50, 46:50] = 1
    first, second = (head.draw(view(64), torch.randn(head.driver.dim)) for _ in range(2))
    assert torch.equal(first.color[:16], second.color[:16])
    assert not torch.equal(first.color, second.color)
    head.region.clear()
    first, second = (head.draw(view(64), torch.randn(head.driver.dim)) for _ in range(2))
    assert torch.equal(first.color, second.color), "a region without a cell is no error"


@pytest.mark.parametrize("size", [16, 24, 50, 128])
def test_other_sizes_are_the_picture_resized(size: int) -> None:
    """A view of another width shows the same picture: its mean, and its layer over another."""
    head = small_head()
    code = torch.randn(head.driver.dim)
    own, other = head.draw(view(), code), head.draw(view(size), code)
    assert other.color.shape == (size, size, 3)
    torch.testing.assert_close(other.color.mean((0, 1)), own.color.mean((0, 1)), atol=0.02, rtol=0)
    under = Layer(torch.ones(size, size, 3), torch.ones(size, size))
    over = head.draw(view(size), code, under)
    torch.testing.assert_close(over.color, other.over(under.color))
    torch.testing.assert_close(over.alpha, torch.ones(size, size))


def test_a_height_between_two_steps_is_cut_off() -> None:
    """A frame of 32 x 30 is the upper part of what a map of eight rows gives."""
    head = small_head()
    layer = head.draw(view(32, 30), torch.randn(head.driver.dim))
    assert layer.alpha.shape == (30, 32)


def test_backends_agree() -> None:
    """Compiled rays and PyTorch's give one picture."""
    head, code = small_head(), torch.randn(small_head().driver.dim)
    native = head.draw(view(), code)
    head.backend = "reference"
    torch.testing.assert_close(head.draw(view(), code).color, native.color, atol=1e-4, rtol=1e-4)


def test_an_avatar_is_saved_loaded_and_streamed_to_the_bit(tmp_path: Path) -> None:
    """The loaded avatar renders what the saved one did, and a stream what a clip does, before any
    background."""
    avatar = small_avatar()
    avatar.save(tmp_path / "me")
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, 16000).astype(np.float32)
    loaded = Engine.load(tmp_path / "me")
    rendered = Engine(avatar, torch.device("cpu")).render((sound, 16000)).frames[:]
    assert rendered.std() > 5
    assert np.array_equal(loaded.render((sound, 16000)).frames[:], rendered)
    chunks = np.array_split(sound, 7)
    assert np.array_equal(np.stack(list(loaded.stream(chunks))), rendered)
    clear = loaded.render((sound, 16000), background="transparent").frames[0]
    assert clear.shape == (32, 32, 4) and 0 < clear[..., 3].mean() < 255
    assert loaded.describe()["system"] == "headnerf" and loaded.describe()["macs_per_ray"] > 0


def test_the_json_of_a_configuration_is_read_back() -> None:
    """Sizes survive; what can not be is refused, by name."""
    made = config()
    again = build_head("headnerf", json.loads(json.dumps(encode(made))))
    assert again.config == made
    wrong = encode(made) | {"size": 33}
    with pytest.raises(
        ValueError, match=r"size: 2 upsampling stages reach multiples of 4 pixels up to 4096, got 33"
    ):
        find_system("headnerf").read_config(wrong)
    with pytest.raises(ValueError, match="not a ray field"):
        build_field("headnerf", made)


@pytest.mark.parametrize(("side", "near"), [(130, 128), (3, 8), (8192, 4096)])
def test_sizes_beyond_the_stages_name_the_nearest(side: int, near: int) -> None:
    with pytest.raises(ValueError, match=rf"height: 3 .* got {side}; .*nearest height: {near}"):
        check_picture("height", side, 3)
    check_picture("height", 136, 3)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("albedo.table", None, r"'field\.encoder\.albedo\.table' is missing"),
        ("illumination.usual.numbers", None, r"illumination\.usual\.numbers' is missing"),
        ("identity.own", torch.tensor(2), r"identity\.own: expected the number of a speaker, 0 to 1, got 2"),
        ("albedo.own", torch.tensor(-1), r"albedo\.own: expected .* got -1"),
        ("identity.table", torch.full((2, 5), torch.nan).half(), r"identity\.table holds NaN"),
        (
            "identity.table",
            torch.zeros(3, 5).half(),
            r"identity\.table: expected shape \[2, 5\], got \[3, 5\]",
        ),
    ],
)
def test_an_avatar_with_other_codes_is_refused(
    tmp_path: Path, name: str, value: torch.Tensor | None, message: str
) -> None:
    """What is missing, or names a speaker that is not there, is named, with a remedy."""
    small_avatar().save(tmp_path / "me")
    file = tmp_path / "me" / "model.safetensors"
    tensors = load_file(file)
    del tensors[f"field.encoder.{name}"]
    save_file(tensors if value is None else tensors | {f"field.encoder.{name}": value}, file)
    about = json.loads((tmp_path / "me" / "avatar.json").read_text())
    about["files"]["model.safetensors"] = sha256(file)
    (tmp_path / "me" / "avatar.json").write_text(json.dumps(about))
    with pytest.raises(FileProblem, match=f"{message}.*copy the whole folder"):
        Avatar.load(tmp_path / "me")


def test_a_picture_in_half_precision_is_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With layers in another dtype, as precision "fp16" has them on CUDA, compositing stays in float32."""
    head = small_head()
    code = torch.randn(1, head.driver.dim)
    with torch.no_grad():
        color, alpha = head.picture(camera(), poses_of(1), code)
        monkeypatch.setattr(head, "_half", lambda like: torch.autocast("cpu", torch.bfloat16))
        rough, clear = head.picture(camera(), poses_of(1), code)
    assert rough.dtype == clear.dtype == torch.float32
    assert 0 < float((rough - color).abs().max()) < 0.1 and float((clear - alpha).abs().max()) < 0.1


def test_half_precision_is_the_gpus() -> None:
    """On a CPU it is refused, as for every system."""
    with pytest.raises(ValueError, match="precision: 'fp16' needs"):
        Engine(small_avatar(), torch.device("cpu"), precision="fp16")
    with pytest.raises(ValueError, match="precision: 'int16' needs"):
        Engine(small_avatar(), torch.device("cpu"), precision="int16")


@pytest.mark.parametrize(
    "look",
    [LookEdit(identity=1), LookEdit(albedo=1), LookEdit(expression=0.0), LookEdit(light=(0.0, 0.5, 0.0))],
)
def test_each_edit_of_the_look_changes_the_picture(look: LookEdit) -> None:
    """In a clip and in a stream alike; the avatar's own number changes nothing."""
    avatar = small_avatar()
    with torch.no_grad():
        avatar.portrait.head.driver.identity.table.mul_(20)
        avatar.portrait.head.driver.albedo.table.mul_(20)
    engine = Engine(avatar, torch.device("cpu"))
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, 9600).astype(np.float32)
    plain, edited = (engine.render((sound, 16000), edit=edit).frames[:] for edit in (None, Edit(look=look)))
    assert not np.array_equal(plain, edited)
    streamed = np.stack(list(engine.stream([sound], edit=Edit(look=look))))
    assert np.array_equal(streamed, edited)
    same = engine.render((sound, 16000), edit=Edit(look=LookEdit(identity=0, albedo=0))).frames[:]
    assert np.array_equal(same, plain)


def test_a_session_changes_its_look_on_the_way() -> None:
    """From the next frame on, and back."""
    engine = Engine(small_avatar(), torch.device("cpu"))
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, 16000).astype(np.float32)
    plain = engine.render((sound, 16000)).frames[:]
    session = engine.session()
    frames = session.frames(sound)
    first = next(frames).picture
    session.edit = Edit(look=LookEdit(light=(0.6, 0.0, 0.0)))
    second = next(frames).picture
    session.edit = None
    third = next(frames).picture
    assert np.array_equal(first, plain[0]) and np.array_equal(third, plain[2])
    assert not np.array_equal(second, plain[1])
