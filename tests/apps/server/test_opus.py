"""Opus by websocket: packets with time stamps in, a packet a tick out, and what is none."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from typing import Any

import aiohttp
import av
import numpy as np
import pytest

from nldf_engine.apps.server.encoders import OPUS_RATES, Opus
from nldf_engine.apps.server.messages import HEADER
from nldf_engine.apps.server.opus import FILLED, RATE, STAMP, OpusIn, samples_of

PIECE = 960


def packets(seconds: float, channels: int = 1) -> list[bytes]:
    """A tone of 440 Hz in packets of 20 ms."""
    layout = "mono" if channels == 1 else "stereo"
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = RATE, layout, "s16"
    codec.time_base = Fraction(1, RATE)
    made = []
    for first in range(0, round(seconds * RATE), PIECE):
        wave = 12_000 * np.sin(2 * np.pi * 440 * (first + np.arange(PIECE)) / RATE)
        frame = av.AudioFrame.from_ndarray(np.repeat(wave, channels).astype(np.int16)[None], "s16", layout)
        frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
        made += [bytes(packet) for packet in codec.encode(frame)]
    return made


def stamped(every: list[bytes], first: int = 0) -> list[bytes]:
    """The packets behind the time stamps of consecutive ones."""
    return [STAMP.pack((first + PIECE * k) % 2**32) + packet for k, packet in enumerate(every)]


@pytest.mark.parametrize("channels", [1, 2])
def test_packets_become_the_sound_that_they_are_of(channels: int) -> None:
    """As long, as loud and as high as what was encoded; time stamps may wrap."""
    given = stamped(packets(0.5, channels), 2**32 - 4 * PIECE)
    into = OpusIn(channels)
    sound = np.frombuffer(b"".join(map(into.push, given)), "<i2").reshape(-1, channels)
    assert len(sound) == len(given) * PIECE
    middle = sound[8 * PIECE : 20 * PIECE].astype(float)
    assert np.abs(middle).max(0) == pytest.approx(12_000, rel=0.1)
    spectrum = np.abs(np.fft.rfft(middle[:, 0]))
    assert spectrum.argmax() * RATE / len(middle) == pytest.approx(440, abs=5)


def test_missing_packets_are_silence_and_late_ones_are_dropped() -> None:
    """The clock of what follows is kept; a long gap is a pause, and is not filled."""
    given = stamped(packets(0.3))
    into = OpusIn(1)
    lengths = [len(into.push(given[k])) // 2 for k in (0, 1, 4, 2, 4, 5)]
    assert lengths == [PIECE, PIECE, 3 * PIECE, 0, 0, PIECE]
    far = STAMP.pack(6 * PIECE + FILLED + 1) + given[0][STAMP.size :]
    assert len(into.push(far)) == 2 * PIECE


@pytest.mark.parametrize(
    "message",
    [b"", b"\0\0\0\0", b"\0\0\0", b"\0\0\0\0\x03", b"\0\0\0\0\x03\x00ab", b"\0\0\0\0\x1b\x3fab",
     b"\0\0\0\0" + b"\xff" * 9000],
)  # fmt: skip
def test_what_is_no_packet_is_refused(message: bytes) -> None:
    """By a clear error; a good one is decoded behind it."""
    into = OpusIn(1)
    with pytest.raises(ValueError, match="Opus"):
        into.push(message)
    assert len(into.push(stamped(packets(0.04))[0])) == 2 * PIECE


def test_garbage_never_does_more_than_be_refused() -> None:
    """Random bytes, and packets with flipped bits: a sound of the length that the head says, or an error."""
    random, real, into = np.random.default_rng(3), packets(0.2), OpusIn(1)
    for number in range(300):
        packet = bytearray(
            real[number % len(real)] if number % 2 else os.urandom(int(random.integers(1, 300)))
        )
        packet[int(random.integers(len(packet)))] ^= 1 << int(random.integers(8))
        into.restart()
        try:
            assert len(into.push(STAMP.pack(0) + bytes(packet))) <= 2 * samples_of(bytes(packet))
        except ValueError as error:
            assert "Opus" in str(error)


@pytest.mark.parametrize("rate", OPUS_RATES)
def test_a_tick_is_one_packet(rate: int) -> None:
    """Each of 40 ms, small, and the tone again when decoded."""
    encode, step = Opus(rate), rate // 25
    made = [
        encode((0.4 * np.sin(2 * np.pi * 440 * (first + np.arange(step)) / rate)).astype(np.float32))
        for first in range(0, 20 * step, step)
    ]
    assert all(samples_of(packet) == 1920 and len(packet) < 600 for packet in made)
    into = OpusIn(1)
    heard = np.frombuffer(
        b"".join(into.push(STAMP.pack(1920 * k) + packet) for k, packet in enumerate(made)), "<i2"
    )
    assert np.abs(heard[10 * 1920 :]).max() / 32_768 == pytest.approx(0.4, rel=0.15)


def test_a_websocket_takes_opus_and_gives_it(server: Any) -> None:
    """What is said in packets comes back in packets; what is no packet gets an error, and nothing ends."""

    async def work(http: aiohttp.ClientSession) -> list[bytes]:
        sounds = []
        async with http.ws_connect("/ws?avatar=ada&in_codec=opus&sound=opus&rate=24000") as socket:
            assert json.loads((await socket.receive()).data)["session"]["sound"] == "opus"
            for message in (b"", b"abcd", b"\0\0\0\0\x03\x00ab"):
                await socket.send_bytes(message)
            for message in stamped(packets(1.0)):
                await socket.send_bytes(message)
            await socket.send_str('{"type": "finish"}')
            problems = 0
            while True:
                message = await socket.receive()
                if message.type == aiohttp.WSMsgType.BINARY:
                    fields = HEADER.unpack_from(message.data)
                    sounds.append(message.data[len(message.data) - fields[8] :])
                    continue
                said = json.loads(message.data)
                problems += said["type"] == "error" and "Opus" in said["problem"]
                if said["type"] == "ended":
                    assert said["position"] == pytest.approx(1.0, abs=0.01) and problems == 3
                    return sounds

    into = OpusIn(1)
    every = server.talk(work)
    heard = np.frombuffer(
        b"".join(into.push(STAMP.pack(1920 * k) + packet) for k, packet in enumerate(every)), "<i2"
    )
    loud = np.abs(heard.reshape(-1, 480)).max(1) > 6000
    assert loud.sum() == pytest.approx(100, abs=12)


@pytest.mark.parametrize(
    "query", ["in_codec=mp3", "in_codec=opus&channels=3", "sound=mp3", "sound=opus&rate=44100"]
)
def test_a_wrong_codec_is_refused_before_the_handshake(server: Any, query: str) -> None:
    """422."""

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.ws_connect(f"/ws?{query}"):
            pass

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        server.talk(work)
    assert refused.value.status == 422
