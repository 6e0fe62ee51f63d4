"""An avatar for Pipecat: a processor behind the text-to-speech service.

    pipeline = Pipeline([transport.input(), stt, llm, tts, AvatarProcessor(engine), transport.output()])

It takes the speech out of the pipeline, and puts pictures with their sound in at the pace at which they are
played.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import numpy as np

from nldf_engine.apps.plugins.voice import of_pcm, to_pcm, voice_of
from nldf_engine.engine import Engine
from nldf_engine.engine.live import LiveFrame

try:
    from pipecat.frames.frames import (
        CancelFrame,
        EndFrame,
        Frame,
        InterruptionFrame,
        OutputImageRawFrame,
        StartFrame,
        TTSAudioRawFrame,
        TTSStoppedFrame,
    )
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
except ImportError as error:
    raise ImportError("pipecat-ai is not installed. To fix it: pip install 'nldf_engine[pipecat]'") from error

RATE = 24_000
# Seconds without any more speech after which the pipeline's end no longer waits.
LONGEST_END = 120.0


class AvatarProcessor(FrameProcessor):
    """A live avatar between the voice and the transport.

    Into it go `TTSAudioRawFrame`s, of any rate; out come, 25 times a second, an `OutputImageRawFrame` (RGB,
    or RGBA over a transparent background) and, while it speaks, the `TTSAudioRawFrame` of the same 40 ms.
    `TTSStoppedFrame` and `EndFrame` wait for the speech before them; `InterruptionFrame` drops what was not
    given out yet. All other frames pass at once.

    The transport needs `audio_out_enabled`, `video_out_enabled`, and the size in `video_out_width` and
    `video_out_height`.

    Args:
        engine: of the avatar; several processors may share one.
        rate: samples a second of the sound that comes out; the transport's `audio_out_sample_rate`.
        settings: see `Engine.live`: poses, background, size, edit, ...

    Attributes:
        voice: the live session.

    Raises:
        FileProblem, ValueError: settings that can't be used.
    """

    def __init__(self, engine: Engine, rate: int = RATE, **settings: Any) -> None:
        super().__init__()
        self.voice = voice_of(engine, rate, **settings)
        self._rate = rate
        self._last: np.ndarray | None = None
        self._task: asyncio.Task[None] | None = None
        self._open = False  # whether speech came since the last end of an utterance
        # What follows each utterance that has ended here, and was not given out to its end.
        self._ending: deque[TTSStoppedFrame | None] = deque()
        self._quiet = asyncio.Event()  # no speech is on its way
        self._quiet.set()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """See the class."""
        await super().process_frame(frame, direction)
        if direction != FrameDirection.DOWNSTREAM:
            await self.push_frame(frame, direction)
            return
        for kind, handle in self._handlers:
            if isinstance(frame, kind):
                await handle(self, frame)
                return
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Ends the avatar with the pipeline."""
        await super().cleanup()
        await self._close()

    async def _start(self, frame: StartFrame) -> None:
        await self.push_frame(frame)
        if self._task is None:
            self._task = self.create_task(self._play())

    async def _speech(self, frame: TTSAudioRawFrame) -> None:
        self._open = True
        self._quiet.clear()
        await self.voice.say(of_pcm(frame.audio, frame.num_channels), frame.sample_rate)

    async def _stopped(self, frame: TTSStoppedFrame) -> None:
        if not self._open:
            await self.push_frame(frame)
            return
        self._finish(frame)

    def _finish(self, then: TTSStoppedFrame | None) -> None:
        self._open = False
        self._ending.append(then)
        self.voice.end()

    async def _interrupted(self, frame: InterruptionFrame) -> None:
        self.voice.interrupt()
        self._forget()
        await self.push_frame(frame)

    async def _end(self, frame: EndFrame) -> None:
        if self._open:
            self._finish(None)
        try:
            await asyncio.wait_for(self._quiet.wait(), LONGEST_END)
        except asyncio.TimeoutError:
            await self.push_error(f"the avatar did not come to an end within {LONGEST_END:g} s")
        await self._close()
        await self.push_frame(frame)

    async def _cancel(self, frame: CancelFrame) -> None:
        await self._close()
        await self.push_frame(frame)

    _handlers: tuple[tuple[type[Any], Any], ...] = (
        (TTSAudioRawFrame, _speech),
        (TTSStoppedFrame, _stopped),
        (InterruptionFrame, _interrupted),
        (StartFrame, _start),
        (EndFrame, _end),
        (CancelFrame, _cancel),
    )

    def _forget(self) -> None:
        self._open = False
        self._ending.clear()
        self._quiet.set()

    async def _close(self) -> None:
        self.voice.close()
        self._forget()
        task, self._task = self._task, None
        if task is not None:
            await self.cancel_task(task)

    async def _play(self) -> None:
        async for frame in self.voice.frames():
            await self._give(frame)

    async def _give(self, frame: LiveFrame) -> None:
        if frame.picture is not None:
            self._last = frame.picture
        made: list[Frame] = [] if self._last is None else [_image(self._last, frame.speaking)]
        if frame.speaking:
            pcm = to_pcm(frame.sound)
            made.append(TTSAudioRawFrame(audio=pcm, sample_rate=self._rate, num_channels=1))
        for each in made:
            if frame.epoch == self.voice.live.epoch:  # else an interruption came in between
                await self.push_frame(each)
        for _ in frame.ended if frame.epoch == self.voice.live.epoch else ():
            then = self._ending.popleft() if self._ending else None
            if then is not None:
                await self.push_frame(then)
        if not (self._open or self._ending):
            self._quiet.set()


def _image(picture: np.ndarray, with_sound: bool) -> OutputImageRawFrame:
    height, width, channels = picture.shape
    made = OutputImageRawFrame(
        image=picture.tobytes(), size=(width, height), format="RGBA" if channels == 4 else "RGB"
    )
    # The transport holds sound for a moment: the picture waits there for the sound before it.
    made.sync_with_audio = with_sound
    return made
