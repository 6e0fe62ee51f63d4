"""A live session in an event loop: sound goes in as fast as it comes, frames come out when they are due."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nldf_engine.engine import Engine
from nldf_engine.engine.live import LiveFrame, LiveSession, Stopped

# Seconds between two looks whether a full queue has room again.
RETRY = 0.02


class Voice:
    """A live session whose frames are rendered by a thread of its own, so that the event loop goes on.

    Everything but the rendering happens in the event loop, so that what an interruption made stale never
    leaves here.

    Args:
        live: used by this object alone.

    Attributes:
        live: as given.
    """

    def __init__(self, live: LiveSession) -> None:
        self.live = live
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="avatar")
        self._closed = False

    async def say(self, samples: np.ndarray, rate: int) -> bool:
        """Queues sound; waits while the queue is full.

        Args:
            samples: [N] or [N, channels], float in [-1, 1] or int16.
            rate: samples a second.

        Returns:
            whether all of it was queued: an interruption drops the rest.

        Raises:
            TypeError, ValueError: no sound, or one that is not finite.
        """
        epoch = self.live.epoch
        while len(samples) and not self._closed:
            samples = samples[self.live.push((samples, rate)) :]
            if len(samples):
                await asyncio.sleep(RETRY)
            if self.live.epoch != epoch:
                return False
        return not self._closed

    def end(self) -> None:
        """The utterance is over behind what was queued: `LiveFrame.ended` says when it has been given out."""
        self.live.finish()

    def interrupt(self) -> Stopped:
        """Drops what was not given out; the next frame is at rest and silent."""
        return self.live.interrupt()

    async def frames(self) -> AsyncIterator[LiveFrame]:
        """Frames as they become due, 25 a second, until `close`; none that an interruption made stale."""
        loop = asyncio.get_running_loop()
        while not self._closed:
            if (wait := self.live.wait) > 0:
                await asyncio.sleep(wait)
                continue
            frame = await loop.run_in_executor(self._thread, self.live.take)
            if frame is not None and frame.epoch == self.live.epoch and not self._closed:
                yield frame

    def close(self) -> None:
        """Ends the frames, behind the one that is being rendered."""
        self._closed = True
        self._thread.shutdown(wait=False)


def voice_of(engine: Engine, rate: int, **settings: Any) -> Voice:
    """A voice on an engine's avatar, with modules of its own: several may speak at once.

    Args:
        engine: of the avatar.
        rate: samples a second of the sound that comes out.
        settings: see `Engine.live`.

    Raises:
        FileProblem, ValueError: settings that can't be used.
    """
    own = Engine(engine.avatar, engine.device, engine.backend, engine.precision)
    # What a first frame makes ready takes a second: not in a conversation.
    own.live(size=settings.get("size"), edit=settings.get("edit")).take()
    return Voice(own.live(rate=rate, **settings))


def to_pcm(sound: np.ndarray) -> bytes:
    """Samples [N] float32 as little-endian 16-bit integers.

    Example:
        >>> to_pcm(np.array([0.0, 1.0, -2.0], np.float32)).hex()
        '0000ff7f0180'
    """
    return (sound.clip(-1, 1) * 32767).astype("<i2").tobytes()


def of_pcm(data: bytes, channels: int) -> np.ndarray:
    """int16 [N, channels] of interleaved little-endian 16-bit integers; a part of a sample at the end is
    left out.

    Raises:
        ValueError: no channels.
    """
    if channels < 1:
        raise ValueError(f"channels: expected at least 1, got {channels}")
    whole = len(data) // (2 * channels) * 2 * channels
    return np.frombuffer(data[:whole], "<i2").reshape(-1, channels)
