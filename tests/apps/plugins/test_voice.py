"""A live session in an event loop, without any other package."""

import asyncio
import time
from collections.abc import Callable

import numpy as np
import pytest

from nldf_engine.apps.plugins.voice import Voice, of_pcm, to_pcm, voice_of
from nldf_engine.engine import Engine
from nldf_engine.engine.live import LiveFrame

RATE = 24_000


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


async def collect(
    voice: Voice, enough: Callable[[list[LiveFrame]], bool], seconds: float = 30
) -> list[LiveFrame]:
    """Frames until there are enough; a busy machine takes longer to get there."""
    frames, until = [], time.monotonic() + seconds
    async for frame in voice.frames():
        frames.append(frame)
        if enough(frames):
            return frames
        assert time.monotonic() < until, "it did not come that far"
    raise AssertionError("the frames ended")


def some(count: int) -> Callable[[list[LiveFrame]], bool]:
    return lambda frames: len(frames) >= count


def test_what_is_said_comes_out_with_pictures(quick: Engine) -> None:
    """Every sample of it, in its order, and the end where it ends; the event loop goes on meanwhile."""
    said, ticks = noise(0.5), []

    async def run() -> list[LiveFrame]:
        voice = voice_of(quick, RATE)

        async def tick() -> None:
            while True:
                ticks.append(time.monotonic())
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        assert await voice.say(said, RATE)
        voice.end()
        frames = await collect(voice, lambda found: bool(found[-1].ended))
        ticking.cancel()
        voice.close()
        return frames

    frames = asyncio.run(run())
    assert [frame.number for frame in frames] == list(range(len(frames))) and len(frames) > 12
    spoken = [frame for frame in frames if frame.speaking]
    heard = np.concatenate([frame.sound for frame in spoken])
    begin = int(np.abs(heard).argmax()) - int(np.abs(said).argmax())
    np.testing.assert_allclose(heard[begin : begin + len(said)], said, atol=1e-3)
    assert [frame.ended for frame in frames if frame.ended] == [(pytest.approx(0.5, abs=1e-3),)]
    assert len(ticks) > 2 * len(frames)


def test_a_full_queue_waits_and_an_interruption_drops_the_rest(quick: Engine) -> None:
    """A sentence longer than the queue: `say` does not come back until it fits, or is not wanted any more."""

    async def run() -> tuple[bool, float, list[LiveFrame]]:
        voice = voice_of(quick, RATE, most=0.3)
        saying = asyncio.create_task(voice.say(noise(5.0), RATE))
        first = await collect(voice, some(8))
        assert not saying.done() and voice.live.room < 0.2
        stopped = voice.interrupt()
        begun = time.monotonic()
        whole = await saying
        waited = time.monotonic() - begun
        rest = await collect(voice, some(8))
        voice.close()
        assert stopped.dropped > 0.2 and {frame.epoch for frame in first} == {0}
        return whole, waited, rest

    whole, waited, rest = asyncio.run(run())
    assert not whole and waited < 3
    assert rest and not any(frame.speaking for frame in rest) and {frame.epoch for frame in rest} == {1}
    assert max(float(np.abs(frame.sound).max()) for frame in rest) == 0


def test_voices_on_one_engine_are_apart(quick: Engine) -> None:
    """One speaks, the other is silent."""

    async def run() -> tuple[list[LiveFrame], list[LiveFrame]]:
        one, other = voice_of(quick, RATE), voice_of(quick, RATE)
        await one.say(noise(0.3), RATE)
        frames = await asyncio.gather(
            collect(one, lambda found: found[-1].speaking), collect(other, some(15))
        )
        one.close()
        other.close()
        return frames[0], frames[1]

    speaking, silent = asyncio.run(run())
    assert any(frame.speaking for frame in speaking) and not any(frame.speaking for frame in silent)


def test_a_closed_voice_ends(quick: Engine) -> None:
    """Its frames end, and nothing is said any more."""

    async def run() -> tuple[bool, int]:
        voice = voice_of(quick, RATE)
        count = 0
        async for _ in voice.frames():
            count += 1
            if count == 3:
                voice.close()
        return await voice.say(noise(0.1), RATE), count

    assert asyncio.run(run()) == (False, 3)


def test_pcm_goes_there_and_back() -> None:
    """Channels apart; half a sample at the end is left out; no channels are refused."""
    sound = np.array([0.0, 0.5, -0.5, 1.0], np.float32)
    read = of_pcm(to_pcm(sound) + b"\x01", 2)
    assert read.shape == (2, 2)
    np.testing.assert_allclose(read / 32767, sound.reshape(2, 2), atol=1e-4)
    assert of_pcm(b"", 1).shape == (0, 1)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        of_pcm(b"\x00\x00", 0)
