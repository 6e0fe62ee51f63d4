"""A client of the websocket that notes when everything came, and sound for it to send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

from nldf_engine.apps.server.messages import HEADER, SPEAKING
from nldf_engine.synthetic import synthesise_speech

RATE = 16_000
CHUNK = 320
"""Samples of a message of a microphone: 20 ms."""


@dataclass(frozen=True)
class Tick:
    """A tick and when it came, by time.perf_counter."""

    came: float
    flags: int
    epoch: int
    number: int
    position: float
    work: float
    picture: bytes = field(repr=False)
    sound: bytes = field(repr=False)

    @property
    def speaking(self) -> bool:
        """Whether any of its sound was pushed."""
        return bool(self.flags & SPEAKING)


@dataclass
class Client:
    """One connection; `ticks` and `texts` grow as messages come."""

    socket: aiohttp.ClientWebSocketResponse
    ticks: list[Tick] = field(default_factory=list)
    texts: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    pushed: list[tuple[int, float]] = field(default_factory=list)
    """(samples sent so far, when the last of them were sent)"""
    keep: bool = False
    """whether pictures and sounds are kept"""

    async def read(self) -> None:
        async for message in self.socket:
            now = time.perf_counter()
            if message.type == aiohttp.WSMsgType.TEXT:
                self.texts.append((now, json.loads(message.data)))
            elif message.type == aiohttp.WSMsgType.BINARY:
                _, flags, epoch, number, position, _, work, size, _ = HEADER.unpack_from(message.data)
                end = HEADER.size + size
                picture = message.data[HEADER.size : end] if self.keep else b"x" * bool(size)
                sound = message.data[end:] if self.keep else b""
                self.ticks.append(Tick(now, flags, epoch, number, position, work, picture, sound))

    async def push(self, samples: np.ndarray) -> None:
        """Sends samples int16 [n] at once."""
        sent = (self.pushed[-1][0] if self.pushed else 0) + len(samples)
        self.pushed.append((sent, time.perf_counter()))
        await self.socket.send_bytes(samples.astype("<i2").tobytes())

    async def speak(self, samples: np.ndarray) -> None:
        """Sends samples at the pace at which they are spoken, 20 ms at a time."""
        begun = time.perf_counter()
        for first in range(0, len(samples), CHUNK):
            piece = samples[first : first + CHUNK]
            await asyncio.sleep(max(0.0, begun + (first + len(piece)) / RATE - time.perf_counter()))
            await self.push(piece)

    async def say(self, **text: Any) -> float:
        """Sends a text message; returns when."""
        now = time.perf_counter()
        await self.socket.send_str(json.dumps(text))
        return now

    async def until(self, kind: str, after: float = 0.0) -> tuple[float, dict[str, Any]]:
        """The first text of this type that came at or after a time."""
        while True:
            for came, text in self.texts:
                if text["type"] == kind and came >= after:
                    return came, text
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def client(url: str, keep: bool = False, **query: Any) -> AsyncIterator[Client]:
    """A connection with a session of its own."""
    given = {"rate": RATE, "in_rate": RATE, **query}
    params = {name: str(value) for name, value in given.items()}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/ws", params=params, max_msg_size=0) as socket,
    ):
        made = Client(socket, keep=keep)
        reader = asyncio.create_task(made.read())
        try:
            await made.until("ready")
            yield made
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


def speech(seconds: float, seed: int = 1) -> np.ndarray:
    """Synthesised speech, int16 [n] at 16 kHz."""
    made = synthesise_speech(None, seconds, seed)
    samples = np.asarray(made.samples, np.float32)
    if made.rate != RATE:
        import soxr

        samples = soxr.resample(samples, made.rate, RATE)
    return (np.clip(samples, -1, 1) * 32_767).astype(np.int16)


def spread(values: list[float] | np.ndarray) -> dict[str, float]:
    """Median, 95th percentile and largest of seconds, in milliseconds."""
    known = 1000 * np.asarray(values)
    return {
        "p50": float(np.median(known)),
        "p95": float(np.percentile(known, 95)),
        "largest": float(known.max()),
    }
