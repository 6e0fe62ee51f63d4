"""A renderer owns its modules: engines that share an avatar do not disturb each other, nor the avatar."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from avatars import tiny_avatar
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.avatar import Avatar
from nldf_engine.engine import Engine, Renderer
from nldf_engine.engine.edits import Edit, HeadEdit
from nldf_engine.engine.sharing import share_weights

CPU = torch.device("cpu")
FEATURES = np.random.default_rng(0).random((5, 16, 29)).astype(np.float32)
SETTINGS = ("backend", "precision", "sparse", "training")


def settings(module: nn.Module) -> dict[str, Any]:
    """All that a renderer sets on modules, by name."""
    return {
        f"{name}.{key}": getattr(part, key)
        for name, part in module.named_modules()
        for key in SETTINGS
        if hasattr(part, key)
    }


def loud(system: str) -> Avatar:
    """The tiny avatar; a radiance field's densities are spread, so that there is something to leave out."""
    avatar = tiny_avatar(system)
    if system == "adnerf":
        with torch.no_grad():
            for network in (avatar.portrait.head.field.coarse, avatar.portrait.head.field.fine):
                network.alpha_linear.weight.mul_(300)
    return avatar


ENGINES: dict[str, list[dict[str, Any]]] = {
    "nldf": [{"precision": "int16"}, {"precision": "fp32"}, {"backend": "reference"}],
    "adnerf": [{"sparse": True}, {}, {"backend": "reference"}, {"sparse": True, "backend": "reference"}],
}


@pytest.mark.parametrize("system", list(ENGINES))
def test_engines_on_one_avatar_render_what_each_renders_alone(system: str) -> None:
    """Frame by frame in turn, each keeps its precision, backend and sparseness, and the avatar its own."""
    alone = [Engine(loud(system), CPU, **options).render(FEATURES).frames[:] for options in ENGINES[system]]
    assert (alone[0] != alone[1]).any(), "the settings show nothing"
    avatar = loud(system)
    avatar.portrait.train()
    before, weights = settings(avatar.portrait), avatar.portrait.state_dict()
    kept = {name: value.clone() for name, value in weights.items()}
    engines = [Engine(avatar, CPU, **options) for options in ENGINES[system]]
    clips = [engine.render(FEATURES) for engine in engines]
    for number in range(len(FEATURES)):
        for clip, want in zip(clips, alone, strict=True):
            np.testing.assert_array_equal(clip.frames[number], want[number])
    assert settings(avatar.portrait) == before
    assert all(torch.equal(value, kept[name]) for name, value in avatar.portrait.state_dict().items())


def test_an_edited_head_is_one_engines_alone() -> None:
    """The torso for edited heads is no part of the avatar or of another engine, and shares what it can."""
    avatar = Avatar.load(bundled_avatar())
    one, other = Engine(avatar, CPU), Engine(avatar, CPU)
    features = np.random.default_rng(0).random((5, 16, avatar.frontend.dim)).astype(np.float32)
    want = other.render(features, size=48).frames[2]
    edited = one.render(features, size=48, edit=Edit(HeadEdit(yaw=3))).frames[2]
    np.testing.assert_array_equal(other.render(features, size=48).frames[2], want)
    np.testing.assert_array_equal(one.render(features, size=48).frames[2], want)
    assert (edited != want).any()
    occupancy = avatar.portrait.torso.occupancy
    assert occupancy.data_ptr() == one.renderer.portrait.torso.occupancy.data_ptr()
    assert one.renderer.edited_portrait.torso.occupancy.data_ptr() != occupancy.data_ptr()
    assert int(one.renderer.edited_portrait.torso.occupancy.sum()) < int(occupancy.sum())


def test_weights_are_in_memory_once_and_their_changes_are_seen() -> None:
    """Every parameter and buffer shares its memory, and a change in place reaches packed weights as well."""
    avatar = tiny_avatar()
    renderer = Renderer(avatar, CPU)
    own, theirs = avatar.portrait.state_dict(), renderer.portrait.state_dict()
    assert own.keys() == theirs.keys()
    assert all(value.data_ptr() == theirs[name].data_ptr() for name, value in own.items())
    assert not any(parameter.requires_grad for parameter in renderer.portrait.parameters())
    assert all(parameter.requires_grad for parameter in avatar.portrait.head.field.network.parameters())
    engine = Engine(avatar, CPU)
    before = engine.render(FEATURES).frames[0]
    with torch.no_grad():
        avatar.portrait.head.field.network.tail.bias.add_(1.0)
    after = engine.render(FEATURES).frames[0]
    assert (before != after).any()
    np.testing.assert_array_equal(after, Engine(avatar, CPU).render(FEATURES).frames[0])


def test_shared_modules_stay_shared() -> None:
    """A module or tensor that stands in two places does so in the copy; its caches are its own."""
    inner = nn.Linear(3, 3)
    outer = nn.ModuleList([inner, inner])
    outer.register_buffer("again", inner.weight.detach())
    copy = share_weights(outer)
    assert copy[0] is copy[1] and copy[0] is not inner
    assert copy[0].weight.data_ptr() == inner.weight.data_ptr() == copy.again.data_ptr()
    copy[0].extra = 1
    assert not hasattr(inner, "extra")


def test_a_renderer_says_what_it_needs() -> None:
    """Codes, reach, latency and silence are those of its head, with codes and without."""
    plain, coded = Renderer(tiny_avatar(), CPU), Engine.load(bundled_avatar(), "cpu").renderer
    assert plain.motion_codes == plain.upper_codes == 0
    assert plain.motion_basis is None and plain.upper_basis is None
    assert coded.motion_codes == len(coded.motion_basis.scale) > 0
    assert coded.upper_codes == len(coded.upper_basis.scale) > 0
    assert plain.reach == (4, 3) and coded.reach[1] > 0
    assert plain.silence(2).shape == (2, 16, 29) and not plain.silence().any()
    assert plain.camera().width == 24 and plain.camera(12).height == 12
    assert plain.own_motion.shape == (40, 2, 3) and coded.own_motion is not None
    with pytest.raises(ValueError, match="size"):
        plain.camera(0)
    with pytest.raises(ValueError, match="edges"):
        plain.backdrop(None, "soft", plain.camera())
