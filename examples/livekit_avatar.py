"""An avatar in a conversation of LiveKit Agents.

    python examples/livekit_avatar.py --avatar avatars/me --dry-run speech.wav -o out.mp4
    python examples/livekit_avatar.py --avatar avatars/me dev

A dry run needs neither a server nor keys: it speaks a sound file, is interrupted in the middle of it, speaks
it again, and writes what a room would have seen. Without it this is a worker of LiveKit Agents, which needs a
server and the keys of the models that it names.
"""

import argparse
import asyncio
import sys
import time

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, QueueAudioOutput

from nldf_engine import Engine
from nldf_engine.apps.plugins.livekit import AvatarVideo, run_avatar
from nldf_engine.audio import SAMPLE_RATE, load_audio
from nldf_engine.media.video_writer import VideoWriter

STEP = SAMPLE_RATE // 50


def pieces(path: str) -> list[rtc.AudioFrame]:
    """The sound of a file, 20 ms each."""
    samples = (load_audio(path) * 32767).clip(-32768, 32767).astype(np.int16)
    cut = [samples[first : first + STEP] for first in range(0, len(samples), STEP)]
    return [rtc.AudioFrame(piece.tobytes(), SAMPLE_RATE, 1, len(piece)) for piece in cut]


async def dry_run(engine: Engine, sound: str, out: str, interrupt_at: float) -> None:
    """Speaks into no room, and writes pictures and sound to a file."""
    video, speech = AvatarVideo(engine), pieces(sound)
    begun = time.perf_counter()

    def log(text: str) -> None:
        print(f"{time.perf_counter() - begun:6.2f} s  {text}", flush=True)

    async def say() -> None:
        for piece in speech:
            await video.push_audio(piece)
        await video.push_audio(AudioSegmentEnd())

    pictures: list[np.ndarray] = []
    heard: list[np.ndarray] = []
    spoken, cut = 0.0, False
    saying = asyncio.create_task(say())
    log(f"say {sound}; the lips look {1000 * video.voice.live.latency:.0f} ms ahead")
    async for part in video:
        if isinstance(part, rtc.VideoFrame):
            picture = np.frombuffer(part.data, np.uint8).reshape(part.height, part.width, -1)[:, :, :3]
            pictures.append(picture)
            heard.append(np.zeros(video.rate // 25, np.int16))
        elif isinstance(part, rtc.AudioFrame):
            if spoken == 0:
                log("playback started")
            spoken += part.duration
            heard[-1] = np.frombuffer(part.data, np.int16)
        else:
            log(f"playback finished at {spoken:.2f} s")
            break
        if not cut and spoken >= interrupt_at:
            cut = True
            saying.cancel()
            video.voice.interrupt()
            log(f"interrupted at {spoken:.2f} s; say it again")
            spoken, saying = 0.0, asyncio.create_task(say())
    video.close()
    counters = video.voice.live.statistics()
    log(f"{counters['frames']} frames, {counters['late']} late, {counters['skipped']} without a new picture")
    sounds = np.concatenate(heard).astype(np.float32) / 32768
    height, width = pictures[0].shape[:2]
    with VideoWriter(out, width, height, audio=(sounds, video.rate)) as writer:
        for picture in pictures:
            writer.write(picture)
    log(f"{out}: {len(pictures)} frames")


def worker(engine: Engine) -> None:
    """Runs LiveKit's own command line with an agent that the avatar speaks for."""
    from livekit.agents import Agent, AgentSession, JobContext, WorkerOptions, cli

    async def entrypoint(context: JobContext) -> None:
        await context.connect()
        video = AvatarVideo(engine)
        voice = QueueAudioOutput(sample_rate=video.rate, wait_playback_start=True)
        runner = run_avatar(context.room, voice, video)
        await runner.start()
        context.add_shutdown_callback(runner.aclose)
        session: AgentSession = AgentSession(
            stt="deepgram/nova-3", llm="openai/gpt-4.1-mini", tts="cartesia/sonic-3"
        )
        session.output.audio = voice
        await session.start(agent=Agent(instructions="You are friendly and brief."), room=context.room)

    cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))


def main() -> None:
    """Reads the flags; what it does not know is for LiveKit's command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--avatar", required=True, help="folder written by nldf train")
    parser.add_argument("--dry-run", metavar="SPEECH", help="speak this sound file without a server")
    parser.add_argument("-o", "--output", default="out.mp4", help="of a dry run (default: out.mp4)")
    parser.add_argument("--interrupt-at", type=float, default=1.0, metavar="S", help="seconds (default: 1)")
    flags, rest = parser.parse_known_args()
    engine = Engine.load(flags.avatar)
    if flags.dry_run is not None:
        asyncio.run(dry_run(engine, flags.dry_run, flags.output, flags.interrupt_at))
        return
    sys.argv = [sys.argv[0], *rest]
    worker(engine)


if __name__ == "__main__":
    main()
