"""An avatar in a pipeline of Pipecat: python examples/pipecat_avatar.py avatars/me speech.wav -o out.mp4

Everything happens on this machine: a sound file stands in for the voice, a file for the transport. It speaks
the sound, is interrupted in the middle of it, and speaks it again. In a conversation the pipeline is

    Pipeline([transport.input(), stt, context.user(), llm, tts, AvatarProcessor(engine),
              transport.output(), context.assistant()])
"""

import argparse
import asyncio
import time

import numpy as np
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from nldf_engine import Engine
from nldf_engine.apps.plugins.pipecat import RATE, AvatarProcessor
from nldf_engine.audio import SAMPLE_RATE, load_audio
from nldf_engine.media.video_writer import VideoWriter


class Recorder(FrameProcessor):
    """In the place of a transport: keeps what it would show and play, and says what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[np.ndarray] = []
        self.sounds: list[np.ndarray] = []
        self.seconds, self.begun = 0.0, time.perf_counter()

    def log(self, text: str) -> None:
        """A line with the time."""
        print(f"{time.perf_counter() - self.begun:6.2f} s  {text}", flush=True)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Keeps pictures and sound, and passes everything on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputImageRawFrame):
            width, height = frame.size
            self.pictures.append(np.frombuffer(frame.image, np.uint8).reshape(height, width, -1)[:, :, :3])
            self.sounds.append(np.zeros(RATE // 25, np.int16))
        elif isinstance(frame, TTSAudioRawFrame):
            self.sounds[-1] = np.frombuffer(frame.audio, np.int16)
            self.seconds += frame.num_frames / frame.sample_rate
        elif isinstance(frame, TTSStartedFrame | TTSStoppedFrame | InterruptionFrame):
            self.log(f"{type(frame).__name__} behind {self.seconds:.2f} s of sound")
            self.seconds = 0.0 if isinstance(frame, InterruptionFrame) else self.seconds
        await self.push_frame(frame, direction)


def voice(path: str) -> list[Frame]:
    """What a text-to-speech service gives for a sentence."""
    samples, step = (load_audio(path) * 32767).clip(-32768, 32767).astype(np.int16), SAMPLE_RATE // 50
    cut = [samples[first : first + step].tobytes() for first in range(0, len(samples), step)]
    frames = [TTSAudioRawFrame(audio=piece, sample_rate=SAMPLE_RATE, num_channels=1) for piece in cut]
    return [TTSStartedFrame(), *frames, TTSStoppedFrame()]


async def run(engine: Engine, sound: str, out: str, interrupt_at: float) -> None:
    """Speaks, is interrupted, speaks again; writes what came out."""
    avatar, recorder = AvatarProcessor(engine), Recorder()
    worker = PipelineWorker(Pipeline([avatar, recorder]), cancel_on_idle_timeout=False, enable_rtvi=False)

    async def talk() -> None:
        await worker.queue_frames(voice(sound))
        while recorder.seconds < interrupt_at:
            await asyncio.sleep(0.01)
        await worker.queue_frames([InterruptionFrame(), *voice(sound), EndFrame()])

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), talk())
    counters = avatar.voice.live.statistics()
    recorder.log(f"{counters['frames']} frames, {counters['late']} late, {counters['skipped']} skipped")
    height, width = recorder.pictures[0].shape[:2]
    sounds = np.concatenate(recorder.sounds).astype(np.float32) / 32768
    with VideoWriter(out, width, height, audio=(sounds, RATE)) as writer:
        for picture in recorder.pictures:
            writer.write(picture)
    recorder.log(f"{out}: {len(recorder.pictures)} frames")


def main() -> None:
    """Reads the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("avatar", help="folder written by nldf train")
    parser.add_argument("sound", help="speech: any sound file")
    parser.add_argument("-o", "--output", default="out.mp4", help="video to write (default: out.mp4)")
    parser.add_argument("--interrupt-at", type=float, default=1.0, metavar="S", help="seconds (default: 1)")
    flags = parser.parse_args()
    asyncio.run(run(Engine.load(flags.avatar), flags.sound, flags.output, flags.interrupt_at))


if __name__ == "__main__":
    main()
