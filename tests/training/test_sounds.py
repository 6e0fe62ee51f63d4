"""Copies of a sound keep its times, whatever else they change."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import signal

from nldf_engine.audio import mel
from nldf_engine.audio.windows import count_rows
from nldf_engine.training import sounds
from nldf_engine.training.sounds import SoundCopy, back_in_time, vary_sound

RATE = 16_000
REACH = 40  # milliseconds


def copies_of(sound: np.ndarray, count: int, seed: int = 0) -> list[SoundCopy]:
    return vary_sound(sound, count, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def struck() -> np.ndarray:
    """Twenty seconds of voiced syllables that begin within 5 ms, at irregular times, and fade."""
    random = np.random.default_rng(0)
    sound = np.zeros(20 * RATE)
    place = 2000
    while place < len(sound) - 6000:
        time = np.arange(6000) / RATE
        pitch = random.uniform(100, 200)
        voice = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 25))
        fade = np.minimum(time / 0.005, 1) * np.exp(-time / 0.06)
        sound[place : place + 6000] += voice * fade * random.uniform(0.5, 1)
        place += random.integers(2400, 6400)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def loudness(sound: np.ndarray) -> np.ndarray:
    """The envelope, a number a millisecond, without its slowest and fastest changes."""
    whole = np.abs(sound[: len(sound) // 16 * 16]).reshape(-1, 16).mean(1)
    band = signal.butter(2, [0.5, 25], "band", fs=1000, output="sos")
    return signal.sosfiltfilt(band, np.sqrt(whole))


def lateness(sound: np.ndarray, copy: SoundCopy) -> float:
    """Milliseconds of the original by which the copy's envelope is late, its speed taken out."""
    first, second = loudness(sound), loudness(copy.samples)
    if "room" in copy.recipe:  # its tails are late, its onsets are not
        first, second = (np.maximum(np.diff(values), 0) for values in (first, second))
        first, second = first - first.mean(), second - second.mean()
    second = np.interp(np.arange(len(first)) / copy.speed, np.arange(len(second)), second)
    middle = slice(REACH, len(first) - REACH)
    alike = [first[middle] @ np.roll(second, -lag)[middle] for lag in range(-REACH, REACH + 1)]
    place = int(np.argmax(alike))
    assert 0 < place < 2 * REACH
    left, here, right = alike[place - 1 : place + 2]
    return place + 0.5 * (left - right) / (left - 2 * here + right) - REACH


def test_copies_keep_the_times(struck: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    """The envelopes of 60 copies fit the original's within 5 ms, the stated speed taken out."""
    late = {copy.recipe: lateness(struck, copy) for copy in copies_of(struck, 60)}
    values = np.array(list(late.values()))
    with capsys.disabled():
        print(f"\nlateness: mean {values.mean():.2f}, largest {np.abs(values).max():.2f} ms")
    worst = max(late, key=lambda recipe: abs(late[recipe]))
    assert abs(late[worst]) < 5, worst
    assert abs(values.mean()) < 1.5


@pytest.mark.parametrize("recipe", ["", "room"])
def test_wrong_times_are_found(struck: np.ndarray, recipe: str) -> None:
    """The measure above sees a delay of 8 ms, and a speed that is not the stated one."""
    delayed = SoundCopy(np.pad(struck, (128, 0)), 1.0, recipe)
    assert abs(lateness(struck, delayed) - 8) < 0.5
    faster = SoundCopy(sounds.effects.change_speed(struck, 1.002), 1.0, recipe)
    assert abs(lateness(struck, faster)) > 5


def test_copies_are_sound(speech: np.ndarray) -> None:
    """float32 in [-1, 1] of the stated length; every variation is among them, and no two are alike."""
    copies = copies_of(speech, 40)
    for copy in copies:
        assert copy.samples.dtype == np.float32 and copy.samples.shape == (round(len(speech) / copy.speed),)
        assert np.abs(copy.samples).max() <= 1 and copy.samples.std() > 1e-3
        assert (copy.speed == 1.0) == ("speed" not in copy.recipe)
    words = " ".join(copy.recipe for copy in copies)
    kinds = ["speed", "pitch", "formants", "room", "colour", "telephone", "mu-law", "mp3", "aac", "opus"]
    assert [kind for kind in [*kinds, *sounds.effects.NOISES] if kind not in words] == []
    assert len({copy.samples.tobytes() for copy in copies}) == 40


def test_the_generator_decides(speech: np.ndarray) -> None:
    """One seed makes the same copies to the bit, another seed others; the original stays as it was."""
    before = speech.copy()
    first, again, other = copies_of(speech, 6), copies_of(speech, 6), copies_of(speech, 6, seed=1)
    for one, two in zip(first, again, strict=True):
        assert (one.recipe, one.speed) == (two.recipe, two.speed)
        assert np.array_equal(one.samples, two.samples)
    assert [copy.recipe for copy in first] != [copy.recipe for copy in other]
    assert np.array_equal(before, speech)


@pytest.mark.parametrize("count", [sounds.SHORTEST, 16_001])
def test_silence_and_short_sounds(count: int) -> None:
    """Silence gets finite copies, some with noise; a tenth of a second is enough, and its level no matter."""
    loudest = []
    for sound in (np.zeros(count, np.float32), np.full(count, 0.3, np.float32)):
        for copy in copies_of(sound, 24):
            assert np.isfinite(copy.samples).all() and len(copy.samples) == round(count / copy.speed)
            loudest.append(float(np.abs(copy.samples).max()))
    assert max(loudest) > 1e-3


def test_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Five copies of a minute take under 3 s of a processor's time."""
    sound = (np.random.default_rng(0).standard_normal(60 * RATE) / 10).astype(np.float32)
    copies_of(sound[:RATE], 20)  # imports
    start = time.process_time()
    copies_of(sound, 10)
    spent = (time.process_time() - start) / 2
    with capsys.disabled():
        print(f"\nfive copies of a minute: {spent:.2f} s")
    assert spent < 3


def test_rows_back_in_time(speech: np.ndarray) -> None:
    """Rows of the mel front-end, read back from a copy at another speed, fit the original's best unmoved."""
    count = count_rows(len(speech))
    original = mel.mel_rows(speech)
    for speed in (0.85, 1.18):
        rows = mel.mel_rows(sounds.effects.change_speed(speech, speed))
        back = back_in_time(rows, speed, count)
        assert back.shape == (count, original.shape[1]) and back.dtype == np.float32
        first, second = original.mean(1), back.mean(1)
        alike = [np.corrcoef(first[4:-4], np.roll(second, -lag)[4:-4])[0, 1] for lag in (-1, 0, 1)]
        place = 0.5 * (alike[0] - alike[2]) / (alike[0] - 2 * alike[1] + alike[2])
        assert abs(20 * place) < 5 and alike[1] > 0.9


def test_rows_back_in_time_exactly() -> None:
    """A line stays a line at the original's times; speed 1 changes nothing; the ends are held."""
    speed, count = 1.25, 1000
    times = (np.arange(800) + 0.5) / 50  # of the copy's rows
    back = back_in_time(np.stack([times, -times], 1).astype(np.float32), speed, count)
    expected = np.clip((np.arange(count) + 0.5) / 50 / speed, times[0], times[-1])
    np.testing.assert_allclose(back, np.stack([expected, -expected], 1), rtol=1e-5, atol=1e-5)
    rows = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    assert np.array_equal(back_in_time(rows, 1.0, 7), rows)
    assert np.array_equal(back_in_time(rows, 1.0, 9)[7:], rows[[6, 6]])
    assert np.array_equal(back_in_time(rows[:1], 1.1, 3), rows[[0, 0, 0]])
    assert back_in_time(rows, 1.1, 0).shape == (0, 3)


def test_wrong_arguments() -> None:
    """Each is named, with what was expected."""
    sound, random = np.zeros(RATE, np.float32), np.random.default_rng(0)
    with pytest.raises(TypeError, match="samples: expected float32, got float64"):
        vary_sound(sound.astype(np.float64), 1, random)
    for wrong in (sound[:100], sound[:0], sound[None]):
        with pytest.raises(ValueError, match="samples: expected"):
            vary_sound(wrong, 1, random)
    for value in (np.nan, np.inf, 1e4):
        broken = sound.copy()
        broken[5] = value
        with pytest.raises(ValueError, match="finite"):
            vary_sound(broken, 1, random)
    with pytest.raises(ValueError, match="count"):
        vary_sound(sound, -1, random)
    assert vary_sound(sound, 0, random) == []
    for rows, speed, count in ((sound, 1.0, 1), (sound[:0, None], 1.0, 1)):
        with pytest.raises(ValueError, match="rows: expected"):
            back_in_time(rows, speed, count)
    for speed, count in ((0.0, 1), (float("nan"), 1), (1.0, -1)):
        with pytest.raises(ValueError, match="expected a positive speed"):
            back_in_time(sound[:, None], speed, count)
