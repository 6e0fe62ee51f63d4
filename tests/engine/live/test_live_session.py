"""Live sessions in simulated time: one clock, its sound and pictures, interruptions, and hostile sound."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.engine import Engine, LiveFrame, LiveSession
from nldf_engine.engine.edits import Edit, EyesEdit, Gate, HeadEdit, LookEdit, MouthEdit, UpperEdit
from nldf_engine.engine.live.session import LARGEST_LEAD, TICK

RATE = 16_000


class Clock:
    """A clock that goes on when it is pushed."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def tiny() -> Engine:
    """An engine that renders in no time."""
    return Engine(tiny_avatar(size=8), torch.device("cpu"))


@pytest.fixture(scope="module")
def bundled() -> Engine:
    """The bundled avatar: motion codes, and features with levels."""
    return Engine.load(bundled_avatar(), device="cpu")


def tone(seconds: float, rate: int = RATE, loud: float = 0.3) -> np.ndarray:
    """A buzz with syllables."""
    moment = (np.arange(round(seconds * rate)) + 0.25) / rate
    buzz = np.sign(np.sin(2 * np.pi * 150 * moment)) * (0.6 + 0.4 * np.sin(2 * np.pi * 5 * moment))
    return (loud * buzz).astype(np.float32)


def run(
    live: LiveSession, clock: Clock, seconds: float, push: Callable[[float], None] | None = None,
    step: float = 0.005,
) -> list[LiveFrame]:  # fmt: skip
    """The frames of so many seconds; `push` is called every `step`."""
    frames = []
    until = clock.now + seconds - 1e-9
    while clock.now < until:
        if push is not None:
            push(clock.now)
        while (frame := live.take()) is not None:
            frames.append(frame)
        clock.now += step
    return frames


def sound_of(frames: list[LiveFrame]) -> np.ndarray:
    return np.concatenate([frame.sound for frame in frames])


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("given", [8000, 24_000, 48_000])
def test_every_tick_has_a_picture_and_its_sound(tiny: Engine, clock: Clock, rate: int, given: int) -> None:
    """Of any rates: 25 frames a second, the sound comes out once and whole, delayed by the latency."""
    live = tiny.live(rate=rate, clock=clock)
    sound = tone(0.5, given)
    assert live.push((sound, given)) == len(sound)
    live.finish()
    frames = run(live, clock, 1.0)
    assert [frame.number for frame in frames] == list(range(25))
    assert all(len(frame.sound) == rate // 25 and frame.picture is not None for frame in frames)
    out = sound_of(frames)
    assert np.argmax(np.abs(out) > 0.05) / rate == pytest.approx(live.latency, abs=0.002)
    assert np.count_nonzero(np.abs(out) > 0.01) / rate == pytest.approx(0.5, abs=0.01)
    assert [frame.ended for frame in frames if frame.ended] == [(pytest.approx(0.5, abs=2e-4),)]


def test_frames_are_those_of_render(bundled: Engine, clock: Clock) -> None:
    """What is shown is what `render` gives for the sound that comes out, to a grey level."""
    live = bundled.live(rate=RATE, clock=clock, size=48)
    speech = tone(0.8)
    run(live, clock, 0.2)
    live.push(speech)
    frames = run(live, clock, 1.2)
    heard = sound_of(frames)
    before = np.zeros(5 * 640, np.float32)
    edit = Edit(mouth=MouthEdit(gate=Gate()))
    want = bundled.render((np.concatenate([before, heard]), RATE), size=48, edit=edit).frames
    known = len(frames) - 9  # the last ones look ahead of what was given out
    got = np.stack([frame.picture for frame in frames[:known]]).astype(int)
    assert np.abs(got - want[5 : 5 + known]).max() <= 1
    assert np.abs(got - want[6 : 6 + known]).max() > 8, "the comparison can tell frames apart"


STILL = Edit(eyes=EyesEdit("none"), upper=UpperEdit(0.0))


def test_lips_rest_in_silence_and_behind_speech(bundled: Engine, clock: Clock) -> None:
    """With head, lids and brows held still, silent frames differ by nothing, and nothing of a microphone's
    noise moves a lip."""
    noise = np.random.default_rng(1)
    for room in (False, True):
        live = bundled.live("still", rate=RATE, clock=clock, size=48, room=room, edit=STILL)

        def push(now: float, live: LiveSession = live, room: bool = room) -> None:
            if room:  # -48 dB of full scale, for ever
                live.push((0.004 * noise.standard_normal(80)).astype(np.float32))

        still = run(live, clock, 0.8, push)
        shut = _mouth(still[-1])
        assert max(_moved(frame, shut) for frame in still) == 0
        live.push(tone(0.4))
        said = run(live, clock, 1.6, push)
        assert max(_moved(frame, shut) for frame in said) > 20
        assert max(_moved(frame, shut) for frame in said[-5:]) == 0


def _mouth(frame: LiveFrame) -> np.ndarray:
    assert frame.picture is not None
    return frame.picture[28:40, 14:34].astype(int)


def _moved(frame: LiveFrame, rest: np.ndarray) -> int:
    return int(np.abs(_mouth(frame) - rest).max())


def test_an_interruption_is_silent_and_at_rest_with_the_next_frame(bundled: Engine, clock: Clock) -> None:
    """Queued and delayed sound is gone, the mouth is shut in the next frame, and the clock goes on."""
    live = bundled.live("still", rate=RATE, clock=clock, size=48, edit=STILL)
    shut = _mouth(run(live, clock, 0.2)[-1])
    live.push(tone(5.0))
    said = run(live, clock, 1.0)
    assert _moved(said[-1], shut) > 8
    stopped = live.interrupt()
    assert stopped.position == pytest.approx(said[-1].position) and stopped.epoch == 1
    assert stopped.position + stopped.dropped == pytest.approx(5.0)
    after = run(live, clock, 0.5)
    assert [frame.number for frame in after] == list(
        range(said[-1].number + 1, said[-1].number + 1 + len(after))
    )
    assert max(_moved(frame, shut) for frame in after) == 0
    assert not sound_of(after).any() and {frame.epoch for frame in after} == {1}
    live.push(tone(0.3))
    assert any(frame.speaking for frame in run(live, clock, 0.5)), "it speaks again"


def test_returning_can_be_gentle(bundled: Engine, clock: Clock) -> None:
    """With `returning` frames the mouth closes over some frames instead of at once."""
    live = bundled.live("still", rate=RATE, clock=clock, size=48, returning=3, edit=STILL)
    shut = _mouth(run(live, clock, 0.2)[-1])
    live.push(tone(5.0))
    before = _moved(run(live, clock, 1.0)[-1], shut)
    live.interrupt()
    moved = [_moved(frame, shut) for frame in run(live, clock, 0.3)]
    assert before > moved[0] > moved[2] > 1 and moved[3] == 0


def test_a_frame_in_the_making_is_not_given_out_after_an_interruption(tiny: Engine, clock: Clock) -> None:
    """An interruption from another thread while a frame is drawn: the frame that comes out is silent."""
    live = tiny.live(rate=RATE, clock=clock)
    live.push(tone(3.0))
    run(live, clock, 1.0)
    draw, begun, go_on = tiny.renderer.frame, threading.Event(), threading.Event()

    def slowly(*arguments: object) -> np.ndarray:
        begun.set()
        assert go_on.wait(10)
        return draw(*arguments)  # type: ignore[arg-type]

    taken: list[LiveFrame | None] = []
    thread = threading.Thread(target=lambda: taken.append(live.take()))
    tiny.renderer.frame = slowly  # type: ignore[method-assign,assignment]
    try:
        thread.start()
        assert begun.wait(10)
        live.interrupt()  # returns while the frame is still being drawn
        go_on.set()
        thread.join(10)
    finally:
        del tiny.renderer.frame  # type: ignore[misc]
    assert taken[0] is not None and taken[0].epoch == 1 and not taken[0].sound.any()


def test_interruptions_without_end_do_not_keep_the_caller(
    tiny: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they overtake twice is given up until the next call, so that who draws others can turn to them."""
    live = tiny.live(rate=RATE, clock=clock)
    number = run(live, clock, 0.2)[-1].number
    clock.now += TICK
    draw, drawn = tiny.renderer.frame, []

    def overtaken(*arguments: object) -> np.ndarray:
        drawn.append(arguments)
        if len(drawn) <= 5:
            live.interrupt()
        return draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tiny.renderer, "frame", overtaken)
    assert live.take() is None and len(drawn) == 2
    assert live.take() is None and len(drawn) == 4
    frame = live.take()
    assert frame is not None and (frame.epoch, frame.number, len(drawn)) == (5, number + 1, 6)


def test_sound_at_the_pace_of_speech_waits_for_the_reserve_alone(tiny: Engine, clock: Clock) -> None:
    """Chunks of 20 ms come out whole, with under 40 ms between a sound's arrival and its frame."""
    for phase in (0.0, 0.011, 0.027):
        live = tiny.live(rate=RATE, clock=clock)
        run(live, clock, 0.2 + phase, step=0.001)
        speech, sent, begin = tone(0.6), 0, clock.now

        def push(
            now: float, live: LiveSession = live, begin: float = begin, speech: np.ndarray = speech
        ) -> None:
            nonlocal sent
            while sent < len(speech) and now - begin >= (sent + 320) / RATE:
                live.push(speech[sent : sent + 320])
                sent += 320

        frames = run(live, clock, 1.0, push, step=0.001)
        out = sound_of(frames)
        first = int(np.argmax(np.abs(out) > 0.05))
        np.testing.assert_allclose(out[first : first + len(speech)], speech, atol=1e-6)
        assert live.counters.underflows == 1, "its end, which nobody told"
        assert live.statistics()["latency"]["p95"] < 0.04


def test_jitter_makes_a_larger_reserve(tiny: Engine, clock: Clock) -> None:
    """Chunks that come late leave gaps at first, and none once the reserve has grown."""
    live = tiny.live(rate=RATE, clock=clock)
    chunk, sent, begin = tone(0.2), 0, clock.now

    def push(now: float) -> None:  # 200 ms at a time, every second one 70 ms late
        nonlocal sent
        while now - begin >= 0.2 * (sent + 1) + 0.07 * (sent % 2):
            live.push(chunk)
            sent += 1

    run(live, clock, 1.5, push)
    before = live.counters.underflows
    run(live, clock, 1.5, push)
    assert before >= 1 and live.counters.underflows == before
    assert 0.03 < live.statistics()["lead"] <= LARGEST_LEAD


def test_a_full_queue_takes_no_more(tiny: Engine, clock: Clock) -> None:
    """Ten minutes in one chunk: what fits is taken, and the rest is for later; nothing is lost between."""
    live = tiny.live(rate=24_000, clock=clock, most=2.0)
    chunk = tone(600.0, 8000)
    taken = live.push((chunk, 8000))
    assert taken == 16_000 and live.room == pytest.approx(0, abs=0.01)
    assert live.push((chunk[taken:], 8000)) < 20, "but for what the resampling holds back"
    run(live, clock, 1.0)
    assert live.room == pytest.approx(1.0, abs=0.05)
    assert live.push((chunk[taken:], 8000)) == pytest.approx(8000, abs=400)
    assert live.counters.refused_seconds > 500


def test_ten_thousand_tiny_chunks(tiny: Engine, clock: Clock) -> None:
    """Chunks of a sample or two come out as one sound, also through resampling."""
    live, sound = tiny.live(rate=16_000, clock=clock), tone(0.9375, RATE)
    for first in range(0, len(sound), 3):
        live.push(sound[first : first + 3])
    live.push(np.zeros(0, np.float32))
    live.finish()
    out = sound_of(run(live, clock, 1.5))
    first = int(np.argmax(np.abs(out) > 0.05))
    np.testing.assert_array_equal(out[first : first + len(sound)], sound)
    other = tiny.live(rate=16_000, clock=clock)
    for first in range(5000):
        other.push((sound[first : first + 1], 48_000))
    other.finish()
    assert other.queued == pytest.approx(5000 / 48_000, abs=0.001)


@pytest.mark.parametrize(
    ("sound", "problem"),
    [
        (np.full(100, np.nan, np.float32), "not finite"),
        (np.full(100, np.inf, np.float32), "not finite"),
        (np.full(100, 1e6, np.float32), "full scale"),
        ((np.zeros(100, np.float32), 10), "rate"),
        ((np.zeros(100, np.float32), 1e9), "rate"),
        ((np.zeros(100, np.float32), "loud"), "rate"),
        ((np.zeros((4, 4, 4), np.float32), RATE), "shape"),
        ((np.zeros((100, 80), np.float32), RATE), "channels"),
        ((np.zeros(100, "U1"), RATE), "samples as float"),
        ([0.0, 0.1], "array"),
    ],
)
def test_what_is_no_sound_is_refused_and_changes_nothing(
    tiny: Engine, clock: Clock, sound: object, problem: str
) -> None:
    """The error names what is wrong; the session goes on, and the next good chunk is said."""
    live = tiny.live(rate=RATE, clock=clock)
    live.push(tone(0.2))
    with pytest.raises((TypeError, ValueError), match=problem):
        live.push(sound)  # type: ignore[arg-type]
    assert live.queued == pytest.approx(0.2)
    live.push((np.stack([tone(0.2, 48_000)] * 2, 1), 48_000))
    live.finish()
    frames = run(live, clock, 1.0)
    assert sum(np.count_nonzero(np.abs(f.sound) > 0.05) for f in frames) / RATE == pytest.approx(
        0.4, abs=0.01
    )


@pytest.mark.parametrize(
    "setting", [{"rate": 16_001}, {"rate": 0}, {"most": 0.0}, {"lead": -1}, {"returning": -1}]
)
def test_settings_out_of_range_are_refused(tiny: Engine, setting: dict[str, float]) -> None:
    """The error names the setting."""
    with pytest.raises(ValueError, match=f"{next(iter(setting))}: expected"):
        tiny.live(**setting)


def test_sound_goes_on_where_rendering_is_too_slow(tiny: Engine, clock: Clock) -> None:
    """Frames that would come too late are left out, their sound is not; a long stop moves the clock."""
    live = tiny.live("still", rate=RATE, clock=clock)
    speech = tone(1.0)
    live.push(speech)
    frames = run(live, clock, 0.2)
    clock.now += 0.5
    frames += run(live, clock, 1.2)
    assert [frame.number for frame in frames] == list(range(len(frames)))
    assert 10 <= sum(frame.picture is None for frame in frames) <= 13
    assert live.counters.skipped == sum(frame.picture is None for frame in frames)
    out = sound_of(frames)
    first = int(np.argmax(np.abs(out) > 0.05))
    np.testing.assert_array_equal(out[first : first + len(speech)], speech)
    clock.now += 60
    assert live.take() is not None and live.take() is None and live.counters.stalls == 1


def test_live_poses_go_on_where_frames_are_left_out(tiny: Engine, clock: Clock) -> None:
    """Every tick takes one pose, drawn or not."""
    taken: list[int] = []

    def tracker() -> Iterator[HeadEdit]:
        while True:
            taken.append(1)
            yield HeadEdit(yaw=1.0)

    live = tiny.live(tracker(), rate=RATE, clock=clock)
    run(live, clock, 0.2)
    clock.now += 0.4
    frames = run(live, clock, 0.2)
    assert len(taken) == frames[-1].number + 1 and any(frame.picture is None for frame in frames)


def test_edits_poses_and_background_change_at_any_moment(bundled: Engine, clock: Clock) -> None:
    """Each acts with the next frame; an edit that can't be used changes nothing, and the gate stays."""
    live = bundled.live("still", rate=RATE, clock=clock, size=48)
    before = run(live, clock, 0.2)[-1].picture
    live.background = "navy"
    navy = run(live, clock, 0.04)[-1].picture
    assert navy is not None and before is not None and (navy[0, 0] == [0, 0, 128]).all()
    live.edit = Edit(HeadEdit(yaw=8))
    turned = run(live, clock, 0.04)[-1].picture
    assert turned is not None and np.abs(turned.astype(int) - navy).max() > 20
    with pytest.raises(ValueError, match=r"look|identity"):
        live.edit = Edit(look=LookEdit(identity=4))
    assert live.edit == Edit(HeadEdit(yaw=8))
    live.poses = "track"
    assert len(run(live, clock, 1.0)) == 25


def test_sessions_share_nothing_but_the_weights(tiny: Engine, clock: Clock) -> None:
    """Two sessions of one engine, fed in turns, give what each gives alone."""
    sounds = [tone(0.6), tone(0.6)[::-1].copy()]

    def alone(sound: np.ndarray) -> list[LiveFrame]:
        own = Clock()
        live = tiny.live(rate=RATE, clock=own)
        live.push(sound)
        return run(live, own, 1.0)

    want = [alone(sound) for sound in sounds]
    both = [tiny.live(rate=RATE, clock=clock) for _ in sounds]
    for live, sound in zip(both, sounds, strict=True):
        live.push(sound)
    got: list[list[LiveFrame]] = [[], []]
    for _ in range(25):
        for live, frames in zip(both, got, strict=True):
            frame = live.take()
            assert frame is not None
            frames.append(frame)
        clock.now += TICK
    for a, b in zip(want, got, strict=True):
        np.testing.assert_array_equal(sound_of(a), sound_of(b))
        assert all((x.picture == y.picture).all() for x, y in zip(a, b, strict=True))


def test_neither_drifts_nor_grows(tiny: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """In simulated time, with utterances and gaps: sample n is at n / rate, and no list grows."""
    monkeypatch.setattr(tiny.renderer, "frame", lambda *_: np.zeros((8, 8, 3), np.uint8))
    clock = Clock()
    live = tiny.live(rate=8000, clock=clock)
    click = np.zeros(4000, np.float32)
    click[100] = 1.0
    frames = clicks = worst = 0
    for second in range(12):
        live.push((click, 8000))
        live.finish()
        for _ in range(25):
            frame = live.take()
            assert frame is not None
            frames += 1
            if frame.sound.max() > 0.5:
                clicks += 1
                place = frame.time + int(np.argmax(frame.sound)) / 8000
                worst = max(worst, abs(place - (second + 100 / 8000 + live.latency)))
            clock.now += TICK
    assert frames == 25 * (second + 1) and clicks == second + 1 and worst < 0.001
    assert len(live._queue._pieces) <= 1 and len(live._queue._arrivals) <= 1
