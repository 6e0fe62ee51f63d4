"""The quality of a sound: speech made here, with known noise, rooms, chords and clipping."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from nldf_engine.prepare.sound import flattened, judge_sound, measure_sound, steady_tones
from nldf_engine.synthetic import synthesise_speech

pytest.importorskip("librosa", reason="librosa is not installed (pip install 'nldf_engine[prepare]')")
RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return synthesise_speech(None, 15.0, 11).samples.astype(np.float64)


def noisy(speech: np.ndarray, decibels: float) -> np.ndarray:
    """White noise so far below the speech's RMS."""
    noise = np.random.default_rng(0).normal(size=len(speech))
    return speech + noise * np.sqrt(np.mean(speech**2)) * 10 ** (-decibels / 20)


def in_a_room(speech: np.ndarray, seconds: float) -> np.ndarray:
    """As much reverberation as speech, noise that falls by 60 dB in `seconds`."""
    time = np.arange(round(seconds * RATE)) / RATE
    tail = np.random.default_rng(1).normal(size=len(time)) * 10 ** (-3 * time / seconds)
    tail /= np.sqrt(np.sum(tail**2))
    tail[0] += 1
    length = len(speech) + len(tail)
    return np.fft.irfft(np.fft.rfft(speech, length) * np.fft.rfft(tail, length), length)[: len(speech)]


def with_chords(speech: np.ndarray, decibels: float) -> np.ndarray:
    """A triad every two seconds, so far below the speech's RMS."""
    time, chords = np.arange(len(speech)) / RATE, np.zeros(len(speech))
    for number in range(int(time[-1] / 2) + 1):
        root = (220.0, 261.6, 329.6, 293.7)[number % 4]
        held = (time >= 2 * number) & (time < 2 * number + 2)
        for ratio in (1.0, 1.26, 1.5):
            chords[held] += np.sin(2 * np.pi * root * ratio * time[held])
    return speech + chords * np.sqrt(np.mean(speech**2) / np.mean(chords**2)) * 10 ** (-decibels / 20)


def clipped(speech: np.ndarray, share: float) -> np.ndarray:
    """Cut at this share of the highest sample."""
    limit = share * np.abs(speech).max()
    return np.clip(speech, -limit, limit)


def said(samples: np.ndarray) -> tuple[dict, str]:
    measured, problems = judge_sound(samples.astype(np.float32))
    assert all(problem.severity == "warning" and problem.remedy for problem in problems)
    return measured, "; ".join(problem.what for problem in problems)


def test_clean_speech_is_left_in_peace(speech: np.ndarray) -> None:
    """Clean speech: a floor of the known -70 dB, all voiced, dry, no tones, no warning."""
    measured, problems = said(speech)
    assert problems == ""
    assert measured["noise_floor_db"] == pytest.approx(20 * np.log10(3e-4), abs=2)
    assert measured["speech_above_floor_db"] > 40 and measured["steady_floor"]
    assert measured["voiced"] > 0.9 and measured["flattened"] == 0
    assert measured["reverberation_seconds"] < 0.3 and measured["music"] < 0.7


@pytest.mark.parametrize(("decibels", "warned"), [(20.0, False), (10.0, True), (0.0, True)])
def test_noise(speech: np.ndarray, decibels: float, warned: bool) -> None:
    """White noise is measured to 2 dB, and warned of 10 dB below the speech, not 20 dB below."""
    measured, problems = said(noisy(speech, decibels))
    level = 20 * np.log10(np.sqrt(np.mean(speech**2))) - decibels
    assert measured["noise_floor_db"] == pytest.approx(level, abs=2)
    assert ("noisy" in problems) == warned and "music" not in problems and "echoes" not in problems
    assert measured["reverberation_seconds"] is None  # hidden


@pytest.mark.parametrize(("seconds", "warned"), [(0.2, False), (0.4, False), (0.9, True), (1.5, True)])
def test_reverberation(speech: np.ndarray, seconds: float, warned: bool) -> None:
    """Rooms of 0.2 and 0.4 s pass, 0.9 and 1.5 s are warned of; the estimate is at most half too low."""
    measured, problems = said(in_a_room(speech, seconds))
    assert ("echoes" in problems) == warned and "music" not in problems and "noisy" not in problems
    assert 0.5 * seconds < measured["reverberation_seconds"] < 1.5 * seconds
    assert not measured["steady_floor"] or seconds < 0.3


@pytest.mark.parametrize(("decibels", "warned"), [(10.0, True), (20.0, True), (50.0, False)])
def test_music(speech: np.ndarray, decibels: float, warned: bool) -> None:
    """Chords 10 and 20 dB below the speech are music, at the right level to 10 dB; 50 dB below are let be."""
    measured, problems = said(with_chords(speech, decibels))
    assert ("music" in problems) == warned and "noisy" not in problems
    if warned:
        # Against the loud frames of speech, some 3 dB above its RMS; held tones are counted at their least.
        assert -decibels - 10 < measured["music_db"] < -decibels


def test_clipping(speech: np.ndarray) -> None:
    """Speech cut at 0.6 and 0.3 of its peak is warned of, at any level; the share is that of cut samples."""
    for share in (0.6, 0.3):
        cut = clipped(speech, share)
        measured, problems = said(0.5 * cut)
        assert "clipped" in problems
        limit = np.abs(cut).max()
        assert measured["flattened"] == pytest.approx(np.mean(np.abs(cut) >= limit), rel=0.5)
    assert flattened(np.array([0.0, 1.0, 1.0, 0.0, -1.0, -1.0, -1.0, -1.0])) == 0.5


def test_what_is_no_voice() -> None:
    """Noise in bursts has no pitch, and is warned of as no voice."""
    time = np.arange(6 * RATE) / RATE
    bursts = 0.1 * np.random.default_rng(0).normal(size=len(time)) * (np.sin(12 * time) > 0)
    measured, problems = said(bursts)
    assert measured["voiced"] < 0.2 and "pitch of a voice" in problems


def test_what_cannot_be_measured(speech: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence and scraps give nothing; without librosa the report says that nothing was measured, and why."""
    assert measure_sound(np.zeros(5 * RATE, np.float32)) is None
    assert measure_sound(speech[:RATE]) is None and judge_sound(speech[:0]) == ({}, [])
    assert steady_tones(speech[: 4 * 2048].astype(np.float32)) == (0.0, -100.0)
    monkeypatch.setitem(sys.modules, "librosa", None)
    measured, (problem,) = judge_sound(speech)
    assert measured == {} and problem.severity == "note"
    assert "not measured: librosa is not installed" in problem.what and "pip install" in problem.remedy


def test_a_minute_costs_seconds() -> None:
    """A minute of sound takes under ten seconds of CPU, and ten minutes no more; compiling does not count."""
    minute = synthesise_speech(None, 60.0, 1).samples
    measure_sound(minute[: 3 * RATE])
    began = time.process_time()
    measure_sound(np.tile(minute, 10))
    assert time.process_time() - began < 10
