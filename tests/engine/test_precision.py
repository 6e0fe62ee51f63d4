"""What "auto" computes in: the fast precision where it holds, float32 where it does not."""

from __future__ import annotations

import importlib
import math
import warnings

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.avatar import Avatar
from nldf_engine.engine import Engine
from nldf_engine.engine import precision as precision_module
from nldf_engine.engine import renderer as renderer_module
from nldf_engine.engine.precision import ENVIRONMENT, LEAST_PSNR, chosen, psnr_to_float32
from nldf_engine.nn.resmlp import ResMLP
from nldf_engine.ops import native

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said in the environment but by a test."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def engine(**settings: str) -> Engine:
    return Engine(tiny_avatar(), CPU, **settings)


def parts(made: Engine) -> list[ResMLP]:
    return [module for module in made.renderer.portrait.modules() if isinstance(module, ResMLP)]


def try_on_cpu(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Lets "auto" try these on any CPU."""
    monkeypatch.setitem(precision_module.AUTO, "cpu", names)
    for name in names:
        monkeypatch.setitem(precision_module.FAST, name, (native.cpu_isa(),))


@pytest.mark.parametrize(
    ("isa", "wanted"), [("portable", ("fp32",)), ("avx2", ("int16",)), ("avx512", ("int8", "int16"))]
)
def test_on_a_cpu_it_is_tried_where_it_is_fast(
    monkeypatch: pytest.MonkeyPatch, isa: str, wanted: tuple[str, ...]
) -> None:
    """By the instruction set of the kernels."""
    monkeypatch.setattr(native, "cpu_isa", lambda: isa)
    assert chosen("auto", CPU)[0] == wanted
    assert chosen("fp32", CPU) == (("fp32",), False)


@pytest.mark.parametrize("avatar", ["light field", "behind grids"])
def test_int16_draws_the_picture_of_float32(avatar: str) -> None:
    """No pixel is off by more than a grey level, and not all are the same."""
    made = tiny_avatar() if avatar == "light field" else Avatar.load(bundled_avatar())
    rows = np.random.default_rng(0).random((3, 16, made.frontend.dim)).astype(np.float32)
    got, want = (
        Engine(made, CPU, precision=precision).render(rows, size=128).frames[:].astype(int)
        for precision in ("int16", "fp32")
    )
    difference = np.abs(got - want)
    assert 0 < difference.mean() < 0.05 and difference.max() == 1 and want.std() > 5


@pytest.mark.parametrize(("capability", "wanted"), [((7, 5), "fp32"), ((8, 0), "fp16"), ((9, 0), "fp16")])
def test_on_a_gpu_it_is_tried_where_it_is_new_enough(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], wanted: str
) -> None:
    """By the compute capability that the device states."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert chosen("auto", torch.device("cuda"))[0] == (wanted,)
    assert chosen("fp32", torch.device("cuda")) == (("fp32",), False)


def test_what_holds_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU's integers stand for a GPU's halves: within 50 dB of float32, they are used."""
    try_on_cpu(monkeypatch, "int16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = engine()
    assert made.precision == "int16" and all(part.precision == "int16" for part in parts(made))
    avatar, renderer = made.avatar, made.renderer
    psnr = psnr_to_float32(
        renderer.portrait, avatar.camera, avatar.poses[0], renderer.own_motion[0], parts(made)
    )
    assert psnr > LEAST_PSNR and all(part.precision == "int16" for part in parts(made))


@pytest.mark.parametrize(("psnr", "wanted"), [(53.1, "int8"), (52.9, "int16"), (50.1, "int16")])
def test_8_bits_need_a_margin(monkeypatch: pytest.MonkeyPatch, psnr: float, wanted: str) -> None:
    """Else the next precision is tried, and nothing is said: an avatar may need more bits."""
    try_on_cpu(monkeypatch, "int8", "int16")
    monkeypatch.setattr(renderer_module, "psnr_to_float32", lambda *_: psnr)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = engine()
    assert made.precision == wanted and all(part.precision == wanted for part in parts(made))


def test_what_does_not_hold_is_given_up_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is wrong: a line that names device and kernel, and float32."""
    try_on_cpu(monkeypatch, "int16")
    original = ResMLP.forward

    def wrong(self: ResMLP, *given: torch.Tensor) -> torch.Tensor:
        made = original(self, *given)
        return made + 0.5 if self.precision == "int16" else made

    monkeypatch.setattr(ResMLP, "forward", wrong)
    with pytest.warns(RuntimeWarning, match="int16 differs from float32 on .* .kernel .* rendering in fp32"):
        made = engine()
    assert made.precision == "fp32" and all(part.precision == "fp32" for part in parts(made))
    assert engine(precision="int16").precision == "int16"  # who asks for it gets it


@pytest.mark.parametrize("psnr", [39.9, 3.0, -math.inf, math.nan])
def test_a_kernel_that_is_wrong_is_no_matter_of_bits(monkeypatch: pytest.MonkeyPatch, psnr: float) -> None:
    """Below what rounding gives: a line that names kernel and processor, even if another precision holds."""
    try_on_cpu(monkeypatch, "int8", "int16")
    found = iter((psnr, 60.0))
    monkeypatch.setattr(renderer_module, "psnr_to_float32", lambda *_: next(found))
    monkeypatch.setattr("nldf_engine.base.machine.processor", lambda: "a CPU")
    said = f"int8 differs from float32 on a CPU .kernel {native.cpu_isa()}.: .* rendering in int16"
    with pytest.warns(RuntimeWarning, match=said) as caught:
        made = engine()
    assert made.precision == "int16" and len(caught) == 1


def test_an_8_bit_kernel_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the pictures themselves: scales that are twice too large are far below 40 dB."""
    try_on_cpu(monkeypatch, "int8", "int16")
    module = importlib.import_module("nldf_engine.ops.resmlp")
    pack = module.pack_int8

    def off(body: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        integers, scale, sums = pack(body)
        return integers, 2 * scale, sums

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert engine().precision == "int8"
    monkeypatch.setattr(module, "pack_int8", off)
    with pytest.warns(RuntimeWarning, match="int8 differs from float32 on .* rendering in int16"):
        made = engine()
    assert made.precision == "int16"


@pytest.mark.parametrize("precision", ["auto", "int8", "int16"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["head.bias", "blocks.0.fc1.bias", "blocks.0.fc2.weight", "tail.bias"])
def test_numbers_that_are_none_are_refused(
    monkeypatch: pytest.MonkeyPatch, place: str, value: float, precision: str
) -> None:
    """Integers would make finite pictures of them: the tensor is named, and the avatar."""
    try_on_cpu(monkeypatch, "int8", "int16")
    avatar = tiny_avatar()
    (name,) = [name for name in avatar.portrait.state_dict() if name.endswith(f"network.{place}")]
    avatar.portrait.state_dict()[name].view(-1)[1] = value
    with pytest.raises(ValueError, match=f"avatar 'unsaved': the tensor '{name}' holds NaN or infinity"):
        Engine(avatar, CPU, precision=precision)


def test_avatars_without_the_kernel_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to choose, nothing to say."""
    try_on_cpu(monkeypatch, "int16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Engine(tiny_avatar("adnerf"), CPU).precision == "fp32"
        assert engine(backend="reference").precision == "fp32"


def test_the_environment_says_what_auto_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the caller says nothing else; a word that is none is named with its variable."""
    monkeypatch.setenv(ENVIRONMENT, "int16")
    assert engine().precision == "int16" and engine(precision="fp32").precision == "fp32"
    monkeypatch.setenv(ENVIRONMENT, "fp8")
    with pytest.raises(ValueError, match="NLDF_PRECISION: expected one of auto, fp32"):
        engine()
    with pytest.raises(ValueError, match="precision: expected one of 'auto'"):
        engine(precision="fp8")


def test_equal_pictures_are_infinitely_alike() -> None:
    """Where no part has another precision."""
    made = engine()
    avatar, renderer = made.avatar, made.renderer
    assert (
        psnr_to_float32(renderer.portrait, avatar.camera, avatar.poses[0], renderer.own_motion[0], [])
        == math.inf
    )
