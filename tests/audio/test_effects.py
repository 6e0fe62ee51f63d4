"""Effects change a sound's colour, and none of its times."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nldf_engine.audio import effects

RATE = 16_000
NEAR = 480  # samples about a click: 30 ms
COLOUR = np.array([6.0, -6, 3, -4, 5])
PLACES = np.array([125.0, 500, 1000, 4000, 8000])


def random() -> np.random.Generator:
    return np.random.default_rng(3)


def clicks() -> tuple[np.ndarray, np.ndarray]:
    """Ten seconds of clicks at irregular times, and their samples."""
    places = 3000 + np.cumsum(random().integers(1600, 4800, 45))
    sound = np.zeros(10 * RATE, np.float32)
    sound[places] = 0.9
    return sound, places


def click_errors(made: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Milliseconds that the centre of each click's energy is late."""
    near = np.arange(-NEAR, NEAR)
    first = np.round(places).astype(int)
    energy = np.square(made[first[:, None] + near], dtype=np.float64)
    return ((energy * near).sum(1) / energy.sum(1) + first - places) / RATE * 1000


EXACT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "formants up": lambda sound: effects.shift_formants(sound, 1.14),
    "formants down": lambda sound: effects.shift_formants(sound, 0.88),
    "colour": lambda sound: effects.filter_sound(sound, PLACES, COLOUR),
    "telephone": lambda sound: effects.telephone(sound, companded=False),
    "mu-law": lambda sound: effects.telephone(sound, companded=True),
}


@pytest.mark.parametrize("name", sorted(EXACT))
def test_filters_have_no_delay(name: str) -> None:
    """Clicks stay at their times within 0.1 ms."""
    sound, places = clicks()
    made = EXACT[name](sound)
    assert made.shape == sound.shape and made.dtype == np.float32
    assert np.abs(click_errors(made, places)).max() < 0.1


@pytest.mark.parametrize("speed", [0.85, 0.93, 1.0, 1.07, 1.18])
def test_speed_scales_times(speed: float) -> None:
    """Second s of the copy is second s * speed of the original, within 0.1 ms."""
    sound, places = clicks()
    made = effects.change_speed(sound, speed)
    assert made.shape == (round(len(sound) / speed),) and made.dtype == np.float32
    assert np.abs(click_errors(made, places / speed)).max() < 0.1


@pytest.mark.parametrize("factor", [0.85, 0.93, 1.0, 1.07, 1.18])
def test_pitch_keeps_times(factor: float) -> None:
    """Clicks, which suit overlapping grains least, stay at their times within 5 ms; without drift."""
    sound, places = clicks()
    made = effects.shift_pitch(sound, factor)
    assert made.shape == sound.shape and made.dtype == np.float32
    errors = click_errors(made, places)
    assert np.abs(errors).max() < 5
    assert abs(errors[: len(errors) // 2].mean() - errors[len(errors) // 2 :].mean()) < 2


@pytest.mark.parametrize("factor", [0.85, 1.18])
def test_pitch_and_formants_move_what_they_name(factor: float) -> None:
    """A tone's frequency rises with the pitch; under moved formants harmonics keep their places."""
    time = np.arange(4 * RATE) / RATE
    tones = sum(np.sin(2 * np.pi * 200 * k * time) for k in range(1, 20))
    hump = effects.filter_sound(
        (0.02 * tones).astype(np.float32), np.array([600.0, 1000, 1400]), np.array([-25.0, 0, -25])
    )

    def spectrum(sound: np.ndarray) -> np.ndarray:  # bins of 0.5 Hz, from the middle
        return np.abs(np.fft.rfft(sound[RATE : 3 * RATE] * np.hanning(2 * RATE)))

    pitched = effects.shift_pitch((0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32), factor)
    assert abs(spectrum(pitched).argmax() * 0.5 - 200 * factor) < 5
    before, after = spectrum(hump), spectrum(effects.shift_formants(hump, factor))
    harmonics = np.arange(1, 12) * 400  # bins
    share = (after[harmonics] ** 2).sum() / (after**2).sum()
    assert share > 0.5 * (before[harmonics] ** 2).sum() / (before**2).sum()

    def centre(values: np.ndarray) -> float:
        return float((values[harmonics] * harmonics).sum() / values[harmonics].sum())

    assert (centre(after) > 1.03 * centre(before)) if factor > 1 else (centre(after) < 0.97 * centre(before))


def test_room_begins_with_the_direct_sound() -> None:
    """Nothing before a click, the click itself unchanged, and after it a decay of the stated time."""
    sound = np.zeros(RATE, np.float32)
    sound[4000] = 0.5
    made = effects.add_room(sound, 0.4, 6.0, random())
    assert np.abs(made[:4000]).max() < 1e-6 and abs(made[4000] - 0.5) < 1e-5
    tail = np.square(made[4001 : 4001 + 6400], dtype=np.float64)
    assert abs(10 * np.log10(tail.sum() / 0.25) + 6) < 0.5
    levels = 10 * np.log10(tail.reshape(16, 400).mean(1))
    slope = np.polyfit(np.arange(16) * 400 / RATE, levels, 1)[0]
    assert abs(slope + 60 / 0.4) < 15


@pytest.mark.parametrize("kind", effects.NOISES)
def test_noise_level(speech: np.ndarray, kind: effects.Noise) -> None:
    """Noise is as far below the speech's own level as asked for, and adds to it."""
    noise = effects.add_noise(speech, kind, 12.0, random()) - speech
    ratio = effects.speech_power(speech) / np.mean(np.square(noise, dtype=np.float64))
    assert abs(10 * np.log10(ratio) - 12) < 0.1
    assert abs(np.corrcoef(noise, speech)[0, 1]) < 0.2


@pytest.mark.parametrize("kind", effects.NOISES)
@pytest.mark.parametrize("count", [1, 1600, 16_001])
def test_noise_of_silence(kind: effects.Noise, count: int) -> None:
    """In silence, noise is as if there were speech of a usual level."""
    noise = effects.add_noise(np.zeros(count, np.float32), kind, 10.0, random())
    assert np.isfinite(noise).all() and noise.shape == (count,)
    if count > 1:
        assert abs(10 * np.log10(np.mean(noise**2)) - (effects.USUAL_DB - 10)) < 0.1


@pytest.mark.parametrize("name", sorted(EXACT))
@pytest.mark.parametrize("count", [1, 100, 1601])
def test_awkward_lengths(name: str, count: int) -> None:
    """Short and silent sounds come back as long, and finite."""
    for sound in (np.zeros(count, np.float32), random().standard_normal(count, np.float32) / 4):
        for made in (EXACT[name](sound), effects.shift_pitch(sound, 1.1), effects.shift_pitch(sound, 0.9)):
            assert made.shape == (count,) and np.isfinite(made).all()


def test_wrong_arguments() -> None:
    """Each is named, with what was expected."""
    sound = np.zeros(1600, np.float32)
    for call in (effects.change_speed, effects.shift_pitch, effects.shift_formants):
        for factor in (0.0, 3.0, float("nan")):
            with pytest.raises(ValueError, match=r"expected 0\.5 to 2\.0, got"):
                call(sound, factor)
    with pytest.raises(ValueError, match="seconds: expected a positive time"):
        effects.add_room(sound, 0.0, 6.0, random())
    with pytest.raises(ValueError, match="kind: expected one of white"):
        effects.add_noise(sound, "brown", 6.0, random())  # type: ignore[arg-type]
