"""An avatar in Pipecat's own pipeline: what goes in, what comes out, and what an interruption leaves."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("pipecat", reason="pipecat-ai is not installed: pip install nldf_engine[pipecat]")

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection
from pipecat.tests.utils import QueuedFrameProcessor, SleepFrame, run_test
from pipecat.workers.runner import WorkerRunner

from nldf_engine.apps.plugins.pipecat import RATE, AvatarProcessor
from nldf_engine.engine import Engine


def spoken(seconds: float, rate: int = RATE, channels: int = 1) -> list[Frame]:
    moment = np.arange(round(seconds * rate)) / rate
    samples, step = (8000 * np.sin(2 * np.pi * 200 * moment)).astype(np.int16), rate // 50
    pieces = [samples[first : first + step].repeat(channels) for first in range(0, len(samples), step)]
    return [TTSAudioRawFrame(audio=p.tobytes(), sample_rate=rate, num_channels=channels) for p in pieces]


def through(engine: Engine, frames: Sequence[Frame], **settings: object) -> list[Frame]:
    """What leaves the processor downstream until its pipeline ends."""

    async def run() -> list[Frame]:
        down, _ = await run_test(AvatarProcessor(engine, **settings), frames_to_send=frames, start_timeout=20)
        return list(down)

    return asyncio.run(run())


def kinds(frames: Sequence[Frame], *wanted: type) -> list[type]:
    return [type(frame) for frame in frames if isinstance(frame, wanted)]


def test_a_sentence_is_said_in_step_with_pictures(quick: Engine) -> None:
    """Its sound comes out whole, a picture with each 40 ms of it, its end behind it; other frames pass."""
    down = through(
        quick, [TextFrame("hello"), TTSStartedFrame(), *spoken(0.4, 16_000, 2), TTSStoppedFrame()], size=24
    )
    sounds = [frame for frame in down if isinstance(frame, TTSAudioRawFrame)]
    pictures = [frame for frame in down if isinstance(frame, OutputImageRawFrame)]
    assert kinds(down, TextFrame, TTSStartedFrame, TTSStoppedFrame) == [
        TextFrame,
        TTSStartedFrame,
        TTSStoppedFrame,
    ]
    assert {(s.sample_rate, s.num_channels, s.num_frames) for s in sounds} == {(RATE, 1, RATE // 25)}
    heard = np.concatenate([np.frombuffer(sound.audio, np.int16) for sound in sounds]).astype(float)
    assert 0.4 <= len(heard) / RATE <= 0.48
    assert np.sqrt(np.square(heard).sum() / (0.4 * RATE)) == pytest.approx(8000 / np.sqrt(2), rel=0.02)
    assert {(p.size, p.format, len(p.image)) for p in pictures} == {((24, 24), "RGB", 24 * 24 * 3)}
    order = [type(frame) for frame in down]
    last = len(order) - 1 - order[::-1].index(TTSAudioRawFrame)
    assert order.index(TTSStoppedFrame) == last + 1
    for place, kind in enumerate(order):
        if kind is TTSAudioRawFrame:
            assert order[place - 1] is OutputImageRawFrame and down[place - 1].sync_with_audio


def test_an_interruption_drops_the_sentence_and_its_end(quick: Engine) -> None:
    """Nothing of it comes out behind the interruption, and the next sentence does."""
    received: asyncio.Queue[Frame] = asyncio.Queue()
    down: list[Frame] = []

    async def until(kind: type, count: int) -> None:
        while len(kinds(down, kind)) < count:
            down.append(await asyncio.wait_for(received.get(), 30))

    async def run() -> None:
        sink = QueuedFrameProcessor(queue=received, queue_direction=FrameDirection.DOWNSTREAM)
        pipeline = Pipeline([AvatarProcessor(quick), sink])
        worker = PipelineWorker(pipeline, cancel_on_idle_timeout=False, enable_rtvi=False)

        async def talk() -> None:
            await worker.queue_frames([TTSStartedFrame(), *spoken(3.0), TTSStoppedFrame()])
            await until(TTSAudioRawFrame, 4)
            await worker.queue_frame(InterruptionFrame())
            await until(InterruptionFrame, 1)
            await until(OutputImageRawFrame, len(kinds(down, OutputImageRawFrame)) + 5)
            await worker.queue_frames([TTSStartedFrame(), *spoken(0.2), TTSStoppedFrame(), EndFrame()])
            await until(TTSStoppedFrame, 1)

        runner = WorkerRunner()
        await runner.add_workers(worker)
        await asyncio.gather(runner.run(), talk())

    asyncio.run(run())
    order = [type(frame) for frame in down]
    cut, again = order.index(InterruptionFrame), len(order) - 1 - order[::-1].index(TTSStartedFrame)
    between, after = down[cut:again], down[again:]
    assert not kinds(down[:cut], TTSStoppedFrame) and not kinds(between, TTSAudioRawFrame, TTSStoppedFrame)
    assert len(kinds(after, TTSStoppedFrame)) == 1
    seconds = sum(frame.num_frames for frame in after if isinstance(frame, TTSAudioRawFrame)) / RATE
    assert 0.2 <= seconds <= 0.28


def test_the_end_waits_for_what_is_being_said(quick: Engine) -> None:
    """A pipeline that ends right behind a sentence says it, also where nobody marked its end."""
    down = through(quick, spoken(0.5))
    seconds = sum(frame.num_frames for frame in down if isinstance(frame, TTSAudioRawFrame)) / RATE
    assert 0.5 <= seconds <= 0.58


def test_a_silent_pipeline_ends_at_once(quick: Engine) -> None:
    """An end without speech is nothing to wait for, and an empty sentence ends where it is."""
    down = through(quick, [TTSStartedFrame(), TTSStoppedFrame(), SleepFrame(0.5)])
    assert kinds(down, TTSStartedFrame, TTSStoppedFrame) == [TTSStartedFrame, TTSStoppedFrame]
    assert len(kinds(down, OutputImageRawFrame)) >= 1 and not kinds(down, TTSAudioRawFrame)
