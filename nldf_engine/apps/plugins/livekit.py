"""An avatar for LiveKit Agents: a `VideoGenerator` for its `AvatarRunner`.

    video = AvatarVideo(engine)
    audio = QueueAudioOutput(sample_rate=video.rate, wait_playback_start=True)
    runner = run_avatar(room, audio, video)
    await runner.start()
    agent_session.output.audio = audio

The agent's voice goes into the queue, pictures with their sound go into the room. `AvatarRunner` tells the
agent when it was heard to the end, or how far when it was interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from nldf_engine.apps.plugins.voice import of_pcm, to_pcm, voice_of
from nldf_engine.base.clock import FPS
from nldf_engine.engine import Engine
from nldf_engine.engine.live import LiveFrame

try:
    from livekit import rtc
    from livekit.agents.voice.avatar import (
        AudioReceiver,
        AudioSegmentEnd,
        AvatarOptions,
        AvatarRunner,
        VideoGenerator,
    )
except ImportError as error:
    raise ImportError(
        "livekit-agents is not installed. To fix it: pip install 'nldf_engine[livekit]'"
    ) from error

RATE = 24_000
# What waits between here and the room: more delays an interruption.
QUEUE_MS = 80
LONGEST_HOLD = 0.5  # seconds


class AvatarVideo(VideoGenerator):
    """A live avatar as LiveKit's video generator.

    Where nothing is said it gives pictures alone, so that the runner's playback position counts speech.

    Args:
        engine: of the avatar; several generators may share one.
        rate: samples a second of the sound that comes out.
        settings: see `Engine.live`: poses, background, size, edit, ...

    Attributes:
        voice: the live session.
        rate: as given.

    Raises:
        FileProblem, ValueError: settings that can't be used.

    Example:
        >>> video = AvatarVideo(Engine.load("avatars/me"), size=512)    # doctest: +SKIP
    """

    def __init__(self, engine: Engine, rate: int = RATE, **settings: Any) -> None:
        self.voice = voice_of(engine, rate, **settings)
        self.rate = rate
        self._camera = engine.renderer.camera(settings.get("size"))
        self._synchronizer: rtc.AVSynchronizer | None = None
        self._last: np.ndarray | None = None
        self._taken = asyncio.Event()  # the runner is done with the last part
        self._taken.set()

    @property
    def options(self) -> AvatarOptions:
        """What `AvatarRunner` has to know of it."""
        return AvatarOptions(self._camera.width, self._camera.height, FPS, self.rate, 1)

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Takes a piece of speech, or its end; waits while a minute of it waits."""
        if isinstance(frame, AudioSegmentEnd):
            self.voice.end()
        else:
            await self.voice.say(of_pcm(bytes(frame.data), frame.num_channels), frame.sample_rate)

    async def clear_buffer(self) -> None:
        """Drops all speech that did not come out yet; the next picture is at rest."""
        self.voice.interrupt()
        if self._synchronizer is not None:
            await self._synchronizer.clear_queue()
        # The runner counts the sound that it has taken as played: what it holds now belongs to what was said
        # before, and counting goes on from there.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._taken.wait(), LONGEST_HOLD)

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        """Pictures with the sound that belongs to them, and the ends of utterances, as they become due."""
        async for frame in self.voice.frames():
            for part in self._parts(frame):
                if frame.epoch != self.voice.live.epoch:
                    break  # an interruption came in between
                self._taken.clear()
                yield part
                self._taken.set()

    def _parts(self, frame: LiveFrame) -> list[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        if frame.picture is not None:
            self._last = frame.picture
        parts: list[Any] = [] if self._last is None else [_video_frame(self._last)]
        if frame.speaking:
            parts.append(rtc.AudioFrame(to_pcm(frame.sound), self.rate, 1, len(frame.sound)))
        return parts + [AudioSegmentEnd() for _ in frame.ended]

    def attach(self, runner: AvatarRunner) -> None:
        """An interruption also drops what waits in the runner's synchronizer."""
        self._synchronizer = runner.av_sync

    def close(self) -> None:
        """Ends the frames."""
        self.voice.close()


def run_avatar(room: rtc.Room, audio: AudioReceiver, video: AvatarVideo) -> AvatarRunner:
    """A runner for the avatar, to be started.

    Args:
        room: that the avatar is seen in.
        audio: where the agent's voice comes from: `QueueAudioOutput` in the agent's own process,
            `DataStreamAudioReceiver` in another one.
        video: the avatar.
    """
    runner = AvatarRunner(
        room, audio_recv=audio, video_gen=video, options=video.options, _queue_size_ms=QUEUE_MS
    )
    video.attach(runner)
    return runner


def _video_frame(picture: np.ndarray) -> rtc.VideoFrame:
    height, width, channels = picture.shape
    kind = rtc.VideoBufferType.RGBA if channels == 4 else rtc.VideoBufferType.RGB24
    return rtc.VideoFrame(width, height, kind, picture.tobytes())
