"""An avatar under LiveKit's own runner, queue and synchronizer; the room alone is a stand-in."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip(
    "livekit.agents", reason="livekit-agents is not installed: pip install nldf_engine[livekit]"
)

from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, QueueAudioOutput

from nldf_engine.apps.plugins.livekit import RATE, AvatarVideo, run_avatar
from nldf_engine.engine import Engine


class Publication:
    async def wait_for_subscription(self) -> None:
        pass


class Participant:
    def __init__(self) -> None:
        self.tracks: list[Any] = []

    async def publish_track(self, track: Any, options: Any) -> Publication:
        self.tracks.append(track)
        return Publication()


class Room(rtc.EventEmitter):
    """A room that is connected to nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.local_participant = Participant()

    def isconnected(self) -> bool:
        return True


def spoken(seconds: float, rate: int = RATE) -> list[rtc.AudioFrame]:
    moment = np.arange(round(seconds * rate)) / rate
    samples, step = (8000 * np.sin(2 * np.pi * 200 * moment)).astype(np.int16), rate // 50
    pieces = [samples[first : first + step] for first in range(0, len(samples), step)]
    return [rtc.AudioFrame(piece.tobytes(), rate, 1, len(piece)) for piece in pieces]


def test_it_gives_pictures_always_and_sound_while_it_speaks(quick: Engine) -> None:
    """Pictures of its size; sound of 40 ms behind each picture of speech; the segment's end behind both."""

    async def run() -> list[Any]:
        video = AvatarVideo(quick)
        for frame in spoken(0.4, 16_000):
            await video.push_audio(frame)
        await video.push_audio(AudioSegmentEnd())
        parts: list[Any] = []
        async for part in video:
            parts.append(part)
            if isinstance(part, AudioSegmentEnd):
                break
        video.close()
        return parts

    parts = asyncio.run(run())
    pictures = [part for part in parts if isinstance(part, rtc.VideoFrame)]
    sounds = [part for part in parts if isinstance(part, rtc.AudioFrame)]
    assert {(p.width, p.height, p.type) for p in pictures} == {(16, 16, rtc.VideoBufferType.RGB24)}
    assert {(s.sample_rate, s.num_channels, s.samples_per_channel) for s in sounds} == {(RATE, 1, RATE // 25)}
    assert 0.4 <= sum(sound.duration for sound in sounds) <= 0.48
    order = [type(part) for part in parts]
    first = order.index(rtc.AudioFrame)
    assert first > 2 and set(order[:first]) == {rtc.VideoFrame}  # the look-ahead passes in silence
    assert order[first - 1 : -1 : 2] == [rtc.VideoFrame] * len(sounds) and order[-1] is AudioSegmentEnd


def test_the_runner_is_told_how_far_it_was_heard(quick: Engine) -> None:
    """Started and finished of a whole sentence, the position of one that is cut, then another whole one."""
    events: list[tuple[str, float, bool]] = []

    async def run() -> tuple[Room, float]:
        room, video = Room(), AvatarVideo(quick)
        audio = QueueAudioOutput(sample_rate=RATE, wait_playback_start=True)
        audio.on("playback_started", lambda _: events.append(("started", time.monotonic(), False)))
        audio.on(
            "playback_finished",
            lambda e: events.append(("finished", e.playback_position, e.interrupted)),
        )
        runner = run_avatar(room, audio, video)
        await runner.start()

        async def say(seconds: float) -> None:
            for frame in spoken(seconds):
                await audio.capture_frame(frame)
            audio.flush()

        await say(0.4)
        await audio.wait_for_playout()
        await say(3.0)
        while len(events) < 3:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.4)
        heard = time.monotonic() - events[2][1]
        audio.clear_buffer()
        await audio.wait_for_playout()
        await say(0.4)
        await audio.wait_for_playout()
        video.close()
        await runner.aclose()
        return room, heard

    room, heard = asyncio.run(run())
    assert [event[0] for event in events] == ["started", "finished"] * 3
    assert [event[2] for event in events[1::2]] == [False, True, False]
    assert len(room.local_participant.tracks) == 2
    whole, cut, again = (event[1] for event in events[1::2])
    assert whole == pytest.approx(0.4, abs=0.081) and again == pytest.approx(0.4, abs=0.081)
    # What waits in the runner's queues counts as heard there; whole frames do.
    assert cut == pytest.approx(heard, abs=0.4) and 0 < cut < 2.0


def test_an_interruption_leaves_nothing_stale(quick: Engine) -> None:
    """Behind `clear_buffer` no sound comes out until something new is said."""

    async def run() -> list[Any]:
        video, after = AvatarVideo(quick), []
        for frame in spoken(2.0):
            await video.push_audio(frame)
        clearing = None
        async for part in video:
            if clearing is not None:
                after.append(part)
            elif isinstance(part, rtc.AudioFrame):
                # As the runner does: while it still holds a part that it was given.
                clearing = asyncio.create_task(video.clear_buffer())
                await asyncio.sleep(0.01)
                assert not clearing.done()
            if len(after) > 12:
                break
        video.close()
        await clearing
        return after

    after = asyncio.run(run())
    assert all(isinstance(part, rtc.VideoFrame) for part in after)


def test_settings_are_the_sessions(quick: Engine) -> None:
    """Size, background: a transparent one gives RGBA; an unknown one is refused."""

    async def run() -> rtc.VideoFrame:
        video = AvatarVideo(quick, size=24, background="transparent")
        assert (video.options.video_width, video.options.audio_sample_rate) == (24, RATE)
        part = await video.__aiter__().__anext__()
        video.close()
        return part

    part = asyncio.run(run())
    assert (part.width, part.type) == (24, rtc.VideoBufferType.RGBA)
    with pytest.raises(ValueError, match="expected a width"):
        AvatarVideo(quick, size=0)
