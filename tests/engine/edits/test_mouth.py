"""The mouth's travel: gain about closed lips, sliders that move what they name, lips closed in silence."""

import numpy as np
import pytest
import torch

from nldf_engine import audio
from nldf_engine.audio import whisper
from nldf_engine.audio.activity import speech_active, window_levels
from nldf_engine.engine.edits import Gate, MouthEdit, curve_of
from nldf_engine.engine.edits.mouth import GateState, Mouth, MouthShape
from nldf_engine.systems.common.motion import MOUTH, MotionBasis

CODES = 5
UPPER, LOWER, RIGHT, LEFT = (MOUTH.index(k) for k in (13, 14, 61, 291))


@pytest.fixture(scope="module")
def basis() -> MotionBasis:
    """A basis with orthonormal components and a mean mouth that is 4 mm open and 50 mm wide."""
    torch.manual_seed(0)
    made = MotionBasis(CODES)
    flat = torch.linalg.qr(torch.randn(2 * len(MOUTH), CODES))[0].T
    made.components.copy_(flat.reshape(CODES, len(MOUTH), 2))
    made.scale.copy_(torch.tensor([0.02, 0.015, 0.01, 0.01, 0.005]))
    made.mean[LOWER, 1] = 0.004
    made.mean[RIGHT, 0], made.mean[LEFT, 0] = -0.025, 0.025
    return made


def measured(basis: MotionBasis, codes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Opening, width and smile of codes [N, K] in metres, off the landmarks themselves."""
    at = basis.decode(codes)
    middle = (at[:, UPPER, 1] + at[:, LOWER, 1]) / 2
    return {
        "jaw": at[:, LOWER, 1] - at[:, UPPER, 1],
        "width": at[:, LEFT, 0] - at[:, RIGHT, 0],
        "smile": middle - (at[:, LEFT, 1] + at[:, RIGHT, 1]) / 2,
    }


def moved(basis: MotionBasis, edit: MouthEdit, codes: torch.Tensor, free: torch.Tensor | None = None):
    return Mouth(edit, MouthShape(basis))(codes, torch.arange(len(codes)), free)


def test_gain_scales_the_opening_from_closed_lips(basis: MotionBasis) -> None:
    """At a gain of g every opening is g times as wide, so lips that touch still do; 1 changes nothing."""
    codes = torch.randn(40, CODES)
    opening = measured(basis, codes)["jaw"]
    for gain in (0.0, 0.5, 1.0, 1.7):
        got = measured(basis, moved(basis, MouthEdit(gain), codes))["jaw"]
        torch.testing.assert_close(got, gain * opening, atol=1e-6, rtol=0)
    torch.testing.assert_close(moved(basis, MouthEdit(1.0), codes), codes, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["jaw", "width", "smile"])
def test_a_slider_moves_its_measure_by_a_deviation_and_no_other(basis: MotionBasis, name: str) -> None:
    """One unit is the measure's standard deviation over unit-variance codes; the other measures stay."""
    codes = torch.randn(20000, CODES)
    plain = measured(basis, codes)
    got = measured(basis, moved(basis, MouthEdit(sliders={name: 1.5}), codes))
    for other, values in plain.items():
        change = (got[other] - values).mean()
        want = 1.5 * float(values.std()) if other == name else 0.0
        assert float(change) == pytest.approx(want, rel=0.03, abs=1e-6)


def test_single_codes_and_curves_are_sliders_too(basis: MotionBasis) -> None:
    """code2 moves that code alone; a curve adds to sliders, and its column mouth is a factor of the gain."""
    codes = torch.randn(11, CODES)
    change = moved(basis, MouthEdit(sliders={"code2": 2.0}), codes) - codes
    torch.testing.assert_close(change, torch.tensor([0.0, 0, 2, 0, 0]).expand(11, -1), atol=1e-6, rtol=0)
    curve = curve_of({"frame": [0, 10], "code2": [0, 1], "mouth": [1, 0]})
    got = moved(basis, MouthEdit(curve=curve), codes)
    torch.testing.assert_close(got[0], codes[0], atol=1e-6, rtol=0)
    rest = moved(basis, MouthEdit(0.0), codes[:1])[0]
    torch.testing.assert_close(got[10] - rest, torch.tensor([0.0, 0, 1, 0, 0]), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="codes code0 to code4"):
        Mouth(MouthEdit(sliders={"code5": 1.0}), MouthShape(basis))


def test_the_gate_holds_then_closes_smoothly_and_opens_quickly() -> None:
    """It stays open for the hold, closes within the release, opens within the attack, without a jump."""
    gate = Gate(hold=0.2, attack=0.08, release=0.4)
    active = torch.tensor([False] * 5 + [True] * 20 + [False] * 30)
    state = GateState(gate)
    free = torch.cat([state.push(active[:13]), state.push(active[13:14]), state.push(active[14:])])
    assert torch.equal(free, GateState(gate).push(active)), "pieces differ from the whole"
    assert float(free[:5].max()) == 0 and float(free[6]) == 1
    assert float(free[6:30].min()) == 1 and float(free[30]) < 1
    assert float(free[40:].max()) == 0
    assert float((free[1:] - free[:-1]).abs()[25:].max()) < 0.2


@pytest.mark.parametrize("name", ["mel", "whisper"])
def test_the_gate_hears_speech_before_it_comes_and_not_the_room(name: str) -> None:
    """Bursts of a voice over noise 40 dB below it are heard 0.1 s ahead, at any gain; the noise is not."""
    rate, random = 16000, np.random.default_rng(0)
    time = np.arange(8 * rate) / rate
    voiced = ((time % 2) < 1).astype(np.float32)
    voice = voiced * np.sin(2 * np.pi * 220 * time) * (1 + 0.5 * np.sin(2 * np.pi * 4 * time))
    voice += 0.5 * voiced * np.sin(2 * np.pi * 1900 * time)
    noise = random.standard_normal(len(time)).astype(np.float32)
    frontend = audio.FrontendConfig(name)
    if name == "whisper" and not whisper.ASSET_PATH.is_file():
        pytest.skip("the weights of the front-end 'whisper' are not in this checkout")
    for gain in (0.3, 0.01):
        sound = (gain * (voice + 0.004 * noise)).astype(np.float32)
        windows = audio.features(sound, frontend)
        active = speech_active(windows, frontend, -32.0, 0.12)
        at = np.arange(len(active)) / 25
        assert active[(at > 2) & (at < 2.95)].all() and active[(at > 3.9) & (at < 4)].all()
        assert not active[(at > 3.1) & (at < 3.84)].any() and not active[(at > 5.1) & (at < 5.84)].any()
    silent = np.zeros((3, 16, windows.shape[2]), np.float32)
    assert window_levels(silent, frontend).max() == -60
    assert not speech_active(silent, frontend, -32.0, 0.12).any()


@pytest.mark.parametrize("ahead", [-6, -2, 0, 2, 4, 12])
def test_levels_are_those_of_the_moment_whatever_the_look_ahead(ahead: int) -> None:
    """Speech begins and ends in the same frame where levels come late, so far as they are there at all."""
    frontend = audio.FrontendConfig("whisper", ahead=ahead)
    delay = frontend.kind.level_delay(frontend)
    assert delay == max(0, 2 - ahead)
    windows = np.zeros((20, 16, 65), np.float32)
    loud = 10  # the row of the sound, of which frame t sees rows 2t - 8 to 2t + 8
    for frame in range(20):
        place = loud + delay - (2 * frame - 8)
        if 0 <= place < 16:
            windows[frame, place, -1] = 2.0
    seen = min(6, 7 - delay)  # rows ahead that are known
    active = np.flatnonzero(speech_active(windows, frontend, -32.0, 0.12))
    assert active.tolist() == [t for t in range(20) if 2 * t - 1 <= loud <= 2 * t + seen]


def test_features_without_levels_are_refused() -> None:
    """Levels can't be read from features that hold none; the message lists the front-ends that do."""
    with pytest.raises(ValueError, match=r"'hubert'.*no levels.*whisper, mel"):
        window_levels(np.zeros((1, 16, 8), np.float32), audio.FrontendConfig("hubert"))


@pytest.mark.parametrize(
    "fields",
    [{"gain": 9.0}, {"gain": True}, {"sliders": {"nose": 1.0}}, {"sliders": {"jaw": float("inf")}}],
)
def test_mouths_that_can_not_be_are_refused(fields: dict[str, object]) -> None:
    """Gains out of 0 to 3, unknown sliders and sliders out of range are told."""
    with pytest.raises(ValueError, match="mouth: "):
        MouthEdit(**fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Gate"):
        Gate(threshold=3.0)
