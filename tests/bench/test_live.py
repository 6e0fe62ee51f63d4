"""What `bench.live` makes of ticks: latencies, lateness, lags and faces of which the answer is known."""

from __future__ import annotations

import base64
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("aiohttp") is None:
    pytest.skip("aiohttp is not installed: pip install '.[serve]'", allow_module_level=True)

from avatars import tiny_avatar
from bench.live import server as serving
from bench.live.attack import close_code
from bench.live.client import RATE, Client, Tick, spread
from bench.live.concurrency import late
from bench.live.end_to_end import answered, row
from bench.live.faults import FAULTS, Stretch, measure, seen, undisturbed
from bench.live.latency import beyond
from bench.live.lips import STEP, Spoken, offset_at
from bench.live.options import Options
from bench.live.server import memory, own_memory


def tick(number: int, came: float, position: float = 0.0, picture: bytes = b"x") -> Tick:
    return Tick(came, 1, 0, number, position, 0.01, picture, b"")


def test_latency_counts_from_the_newest_sound_that_a_picture_needs() -> None:
    """Sound pushed every 20 ms, ticks 30 ms after what they look ahead to: 30 ms, give or take a message."""
    ahead = 0.2
    made = Client(None, pushed=[(320 * k, 0.02 * k) for k in range(1, 200)])  # type: ignore[arg-type]
    made.ticks = [tick(k, k / 25 + ahead + 0.03, k / 25) for k in range(1, 80)]
    found = beyond(made, ahead)
    assert min(found) >= 0.01 and max(found) <= 0.0301 and spread(found)["p95"] == pytest.approx(30, abs=0.1)


def test_late_ticks_are_counted_against_the_clock() -> None:
    """One of a hundred 90 ms late, one without a picture."""
    ticks = [tick(k, k / 25 + 5) for k in range(125)]
    ticks[60] = tick(60, 60 / 25 + 5.09)
    ticks[70] = tick(70, 70 / 25 + 5, picture=b"")
    lateness, missing = late(ticks)
    assert len(lateness) == 100 and missing == 1
    assert sorted(lateness)[-2:] == pytest.approx([0, 0.09], abs=1e-6)


def known(seconds: float = 8.0) -> Spoken:
    """A speech of noise, and a mouth that moves along with no repetition."""
    random = np.random.default_rng(2)
    times = np.arange(-1, seconds + 1, STEP)
    opening = np.convolve(random.normal(size=len(times)), np.hanning(12), "same")
    width = np.convolve(random.normal(size=len(times)), np.hanning(12), "same")
    shapes = random.normal(size=(2, 8, 6))
    mouths = 120 + 14 * (opening[:, None, None] * shapes[0] + width[:, None, None] * shapes[1])
    speech = (0.1 * random.normal(size=round(seconds * RATE))).astype(np.float32)
    return Spoken(speech, times, mouths.clip(0, 255), (0, 0, 6, 8))


def shown(voice: Spoken, at: np.ndarray) -> np.ndarray:
    """Pictures of the moments `at`, in another codec's greys and with its noise."""
    nearest = np.abs(voice.times[None] - at[:, None]).argmin(1)
    noise = np.random.default_rng(5).normal(0, 3, (len(at), *voice.mouths.shape[1:]))
    return (16 + 0.86 * voice.mouths[nearest] + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("late", [-0.12, 0.0, 0.02, 0.08])
def test_lips_that_come_late_are_found(late: float) -> None:
    """Pictures of moments a known time before those that are heard."""
    voice, heard = known(), np.arange(1.0, 7.0, 0.04)
    found = voice.lags(shown(voice, heard - late), heard)
    assert np.isfinite(found).mean() > 0.8
    assert np.nanpercentile(np.abs(found - late), 95) <= 0.012


def test_a_face_that_does_not_move_has_no_lag() -> None:
    """Neither where nothing was heard."""
    voice, heard = known(), np.arange(1.0, 7.0, 0.04)
    assert np.isnan(voice.lags(shown(voice, np.full(len(heard), 3.0)), heard)).mean() > 0.9
    assert np.isnan(voice.lags(shown(voice, heard), np.full(len(heard), np.nan))).all()


def test_a_sound_is_looked_up_in_the_speech() -> None:
    """At another rate, quieter, noisy and 0.35 s late; other sounds are nowhere in it."""
    import soxr

    voice, random = known(), np.random.default_rng(4)
    heard = np.concatenate([np.zeros(round(0.35 * 48_000)), 0.3 * soxr.resample(voice.speech, RATE, 48_000)])
    middles, offsets = voice.places(heard + random.normal(0, 0.002, len(heard)), 48_000)
    assert len(middles) > 60 and np.abs(offsets - 0.35).max() < 0.001
    assert offset_at(np.array([3.0, 99.0]), middles, offsets)[0] == pytest.approx(0.35, abs=0.001)
    assert np.isnan(offset_at(np.array([99.0]), middles, offsets)[0])
    assert not len(voice.places(0.1 * random.normal(size=5 * RATE).astype(np.float32), RATE)[0])


def noted(voice: Spoken, late: float, answered_after: float) -> dict[str, Any]:
    """What a page notes of which the microphone begins at 2 s of the audio clock, and is heard later."""

    def tapped(begun: float) -> dict[str, Any]:
        pcm = (voice.speech * 32_767).astype("<i2")
        ends = begun + (np.arange(len(pcm) // 320) + 1) * 0.02
        return {"samples": base64.b64encode(pcm.tobytes()).decode(), "times": ends.tolist()}

    at = np.arange(3.0, 9.0, 0.04) + 50  # of the page's clock, which is 50 s ahead
    heard = at - 50 - 2 - answered_after
    pictures = [
        {
            "now": 1000 * now,
            "clock": now - 50,
            "late": 0.0,
            "out": [0, 0],
            "grey": base64.b64encode(grey).decode(),
        }
        for now, grey in zip(at, map(np.ndarray.tobytes, shown(voice, heard - late)), strict=True)
    ]
    return {"rate": RATE, "mic": tapped(2.0), "ears": tapped(2.0 + answered_after), "pictures": pictures,
            "counted": None}  # fmt: skip


def test_a_row_says_how_late_lips_and_answers_are() -> None:
    """Lips 60 ms behind their sound, which is heard 0.4 s after it was spoken, at 0.25 s of look-ahead."""
    voice = known()
    page = noted(voice, 0.06, 0.4)
    assert np.nanmedian(answered(page, voice)) == pytest.approx(0.4, abs=0.002)
    made = row({"said": page, "spoken": page, "session": {"latency": 0.25}, "logged": []}, voice)
    assert made["lips after their sound (ms)"]["p50"] == pytest.approx(60, abs=6)
    assert made["beyond 40 ms (%)"] > 90
    beyond = made["from microphone to picture, beyond the look-ahead (ms)"]["p50"]
    assert beyond == pytest.approx(400 - 250 - 40 + 60, abs=8)


def test_memory_is_read() -> None:
    """A process has some, and its share is no more than what is resident."""
    found = memory(os.getpid())
    assert 0 < found["own"] <= found["resident"] and 0 < found["share"] <= found["resident"]
    assert own_memory() > 10


def test_a_stretch_is_what_a_good_client_saw() -> None:
    """One tick comes 0.3 s late and holds the next ones up, and 80 ms of sound are missing."""
    ticks = [tick(k, 5 + k / 25, (k + 1) / 25) for k in range(200)]
    calm = seen(ticks, 5 + 0.99, 5 + 3.99)
    assert (calm.ticks, calm.late) == (75, pytest.approx(0)) and calm.gap == pytest.approx(0.04, abs=1e-6)
    assert calm.silence == pytest.approx(0, abs=1e-6)
    ticks = [
        tick(k, max(5 + k / 25, 5 + 5.29) if 125 <= k < 150 else 5 + k / 25, (k + 1 - 2 * (k >= 130)) / 25)
        for k in range(200)
    ]
    held = seen(ticks, 5 + 3.99, 5 + 7.99)
    assert held.ticks == 100 and held.gap == pytest.approx(0.33, abs=1e-6)
    assert held.late == pytest.approx(5) and held.silence == pytest.approx(0.08, abs=1e-6)
    assert seen(ticks, 100, 101) == Stretch(0, 100.0, 1, 1)


def test_others_are_undisturbed_or_not() -> None:
    """A gap of 0.2 s or as before may be, and one more late tick; on a busy machine nothing is known."""
    calm = Stretch(60, 2.0, 0.08, 0.0)
    assert undisturbed(calm, Stretch(60, 3.6, 0.2, 0.04))
    assert not undisturbed(calm, Stretch(60, 3.8, 0.1, 0.0))
    assert not undisturbed(calm, Stretch(60, 2.0, 0.21, 0.0))
    assert not undisturbed(calm, Stretch(60, 2.0, 0.1, 0.2))
    assert undisturbed(Stretch(60, 2.0, 0.3, 0.0), Stretch(60, 2.0, 0.29, 0.0))
    assert undisturbed(Stretch(60, 50.0, 0.1, 0.0), calm) is None


def test_the_code_of_a_closed_websocket_is_read() -> None:
    """Behind short, long and very long messages; none in what was cut off."""
    head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    messages = [
        b"\x81\x02{}",
        b"\x82\x7e\x01\x00" + bytes(256),
        b"\x82\x7f" + (70_000).to_bytes(8, "big") + bytes(70_000),
    ]
    whole = head + b"".join(messages) + b"\x88\x05\x11\x38off"
    assert close_code(whole) == 4408 and close_code(whole[:-7]) is None and close_code(b"") is None


def test_faults_say_what_came_and_who_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two faults against a server of two workers, one of which is killed: what it says is counted."""
    monkeypatch.setattr(serving, "START_SECONDS", 600.0)
    tiny_avatar(size=16).save(tmp_path / "tiny")
    rows = measure(Options([tmp_path / "tiny"]), ["wrong_rates", "worker_killed"], seconds=1.0, tries=1)
    assert list(rows) == ["wrong_rates", "worker_killed"] and set(rows) < set(FAULTS)
    assert "422" in rows["wrong_rates"]["the server said"]
    assert "4500 (1)" in rows["worker_killed"]["the server said"]
    for found in rows.values():
        assert found["wrong pictures"] == 0 and "failures" not in found
