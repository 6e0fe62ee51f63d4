"""What a client of `nldf serve` says, and what it sees and hears by WebRTC."""

from __future__ import annotations

import asyncio
import io
import wave
from typing import Any

import numpy as np

RATE = 16_000


def tone(seconds: float, rate: int = RATE) -> bytes:
    """16-bit PCM."""
    moment = (np.arange(round(seconds * rate)) + 0.25) / rate
    return (9000 * np.sign(np.sin(2 * np.pi * 150 * moment))).astype("<i2").tobytes()


def wav(seconds: float, rate: int = RATE) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(tone(seconds, rate))
    return content.getvalue()


async def receive(connection: Any, seconds: float = 12.0) -> tuple[list[Any], list[Any]]:
    """Pictures and sounds until a loud sound came."""
    tracks = {item.receiver.track.kind: item.receiver.track for item in connection.getTransceivers()}
    pictures: list[Any] = []
    sounds: list[Any] = []

    async def look() -> None:
        while True:
            pictures.append(await tracks["video"].recv())

    async def listen() -> None:
        while not sounds or np.abs(sounds[-1].to_ndarray()).max() < 3000 or not pictures:
            sounds.append(await tracks["audio"].recv())

    looking = asyncio.create_task(look())
    try:
        await asyncio.wait_for(listen(), seconds)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    return pictures, sounds
