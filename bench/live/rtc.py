"""WebRTC with a program at the other end: a microphone's track in, and when picture and sound come out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fractions
import time
from typing import Any

import aiohttp
import numpy as np

from bench.live.client import RATE, speech
from bench.live.end_to_end import AFTER, row
from bench.live.lips import SIDE, Spoken, spoken
from bench.live.options import Options
from bench.live.server import serving

CLOCK = 48_000
PIECE = 960  # samples of a packet: 20 ms
SETTLED = 1.0  # seconds before the microphone speaks


def microphone(pcm: np.ndarray, said: list[tuple[np.ndarray, float]]) -> Any:
    """A track of aiortc that says samples [n] int16 at 48 kHz as a microphone does, silence before and behind
    them; `said` gets each packet's samples and the time at which its last one was spoken."""
    import aiortc
    import av

    class Microphone(aiortc.MediaStreamTrack):
        kind = "audio"

        def __init__(self) -> None:
            super().__init__()
            self._begun, self._count = time.perf_counter(), 0

        async def recv(self) -> Any:
            """The next packet, when it has been spoken."""
            first = self._count * PIECE
            self._count += 1
            spoken_at = self._begun + self._count * PIECE / CLOCK
            await asyncio.sleep(max(0.0, spoken_at - time.perf_counter()))
            place = first - round(SETTLED * CLOCK)
            piece = pcm[max(0, place) : max(0, place + PIECE)]
            piece = np.pad(piece, (PIECE - len(piece), 0) if place < 0 else (0, PIECE - len(piece)))
            said.append((piece, spoken_at))
            frame = av.AudioFrame.from_ndarray(piece[None], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = CLOCK, first, fractions.Fraction(1, CLOCK)
            return frame

    return Microphone()


def _tapped(pieces: list[tuple[np.ndarray, float]]) -> dict[str, Any]:
    """As a page's tap notes it (see watch.js)."""
    pcm = np.concatenate([samples for samples, _ in pieces]).astype("<i2")
    return {
        "samples": base64.b64encode(pcm.tobytes()).decode(),
        "times": [at for _, at in pieces],
    }


async def _look(track: Any, voice: Spoken, pictures: list[dict[str, Any]]) -> None:
    import cv2
    from aiortc.mediastreams import MediaStreamError

    x, y, width, height = voice.box
    with contextlib.suppress(MediaStreamError):
        while True:
            picture = (await track.recv()).to_ndarray(format="gray")
            now = time.perf_counter()
            small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            grey = np.ascontiguousarray(small[y : y + height, x : x + width])
            pictures.append({
                "now": 1000 * now, "clock": now, "late": 0.0, "out": [0.0, 0.0],
                "grey": base64.b64encode(grey.tobytes()).decode(),
            })  # fmt: skip


async def _listen(track: Any, heard: list[tuple[np.ndarray, float]]) -> None:
    from aiortc.mediastreams import MediaStreamError

    with contextlib.suppress(MediaStreamError):
        while True:
            frame = await track.recv()
            samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
            heard.append((samples.mean(1).astype(np.int16), time.perf_counter()))


async def measure(url: str, voice: Spoken) -> dict[str, Any]:
    """What came while the microphone said the speech, as `end_to_end.row` takes it."""
    import aiortc
    import soxr

    pcm = (32_767 * soxr.resample(voice.speech, RATE, CLOCK).clip(-1, 1)).astype(np.int16)
    said: list[tuple[np.ndarray, float]] = []
    heard: list[tuple[np.ndarray, float]] = []
    pictures: list[dict[str, Any]] = []
    async with aiohttp.ClientSession(url) as http:
        async with http.post("/sessions", json={"video": "raw", "rate": CLOCK}) as answer:
            path = answer.headers["Location"]
        async with http.put(f"{path}/poses", json="still"):
            pass
        connection = aiortc.RTCPeerConnection()
        connection.addTransceiver("video", direction="recvonly")
        connection.addTrack(microphone(pcm, said))
        await connection.setLocalDescription(await connection.createOffer())
        offer = {"type": "offer", "sdp": connection.localDescription.sdp}
        async with http.post(f"{path}/offer", json=offer) as answer:
            await connection.setRemoteDescription(aiortc.RTCSessionDescription(**await answer.json()))
        tracks = {item.receiver.track.kind: item.receiver.track for item in connection.getTransceivers()}
        tasks = [
            asyncio.create_task(_look(tracks["video"], voice, pictures)),
            asyncio.create_task(_listen(tracks["audio"], heard)),
        ]
        await asyncio.sleep(SETTLED + len(pcm) / CLOCK + 2 * AFTER)
        async with http.get(path) as answer:
            session = await answer.json()
        await connection.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    noted = {
        "rate": CLOCK, "mic": _tapped(said), "ears": _tapped(heard), "pictures": pictures, "counted": None
    }  # fmt: skip
    return {"said": noted, "spoken": noted, "session": session, "logged": []}


def webrtc(options: Options) -> dict[str, Any]:
    """WebRTC from aiortc's side: pictures and sound as they come, lips against sound, and latency."""
    voice = spoken(options.avatars[0], speech(options.seconds))
    with serving(options.avatars, 1) as server:
        return row(asyncio.run(measure(server.url, voice)), voice)
