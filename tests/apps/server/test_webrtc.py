"""WebRTC over loopback, with aiortc as the other side: offers, WHEP, a microphone, ports, hostile SDP."""

from __future__ import annotations

import asyncio
import fractions
import socket
from typing import Any

import aiohttp
import aiortc
import av
import numpy as np
import pytest

from nldf_engine.apps.server.ports import PortRangeLoop
from players import receive


class Microphone(aiortc.MediaStreamTrack):  # type: ignore[misc]
    """Says a buzz in packets of 20 ms, in stereo as browsers do it."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    async def recv(self) -> av.AudioFrame:
        await asyncio.sleep(0.02)
        moment = np.arange(960) + 960 * self._count
        wave = (9000 * np.sign(np.sin(2 * np.pi * 150 * moment / 48_000))).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = (
            48_000,
            960 * self._count,
            fractions.Fraction(1, 48_000),
        )
        self._count += 1
        return frame


def ports_of(sdp: str) -> set[int]:
    return {int(line.split()[5]) for line in sdp.splitlines() if line.startswith("a=candidate")}


def test_a_whep_player_sees_and_hears(server: Any) -> None:
    """An offer by SDP is answered from ports of the range; pictures and sound come; DELETE ends it."""

    async def work(http: aiohttp.ClientSession) -> None:
        connection = aiortc.RTCPeerConnection()
        connection.addTransceiver("video", direction="recvonly")
        connection.addTransceiver("audio", direction="recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        headers = {"Content-Type": "application/sdp"}
        async with http.post("/whep/bob", data=connection.localDescription.sdp, headers=headers) as answer:
            assert answer.status == 201 and answer.content_type == "application/sdp"
            sdp, place, session = (
                await answer.text(),
                answer.headers["Location"],
                answer.headers["Nldf-Session"],
            )
        ports = ports_of(sdp)
        assert ports and all(42_000 <= port <= 42_040 for port in ports)
        await connection.setRemoteDescription(aiortc.RTCSessionDescription(sdp, "answer"))
        import io
        import wave

        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            buzz = 9000 * np.sign(np.sin(np.arange(64_000) / 17))
            file.writeframes(buzz.astype("<i2").tobytes())
        async with http.post(f"/sessions/{session}/say", data=content.getvalue()) as answer:
            assert answer.status == 202
        pictures, _ = await receive(connection)
        assert (pictures[0].width, pictures[0].height) == (24, 24)
        async with http.delete(place) as answer:
            assert answer.status == 204
        while len(server.sessions):
            await asyncio.sleep(0.05)
        await connection.close()

    server.talk(work)


def test_a_microphone_is_said(server: Any) -> None:
    """What a track sends in comes out again, with pictures, by the offer as JSON."""

    async def work(http: aiohttp.ClientSession) -> None:
        async with http.post(
            "/sessions", json={"avatar": "ada", "video": "raw", "microphone": True}
        ) as answer:
            path = answer.headers["Location"]
        connection = aiortc.RTCPeerConnection()
        connection.addTransceiver("video", direction="recvonly")
        connection.addTrack(Microphone())
        await connection.setLocalDescription(await connection.createOffer())
        offer = {"type": "offer", "sdp": connection.localDescription.sdp}
        async with http.post(f"{path}/offer", json=offer) as answer:
            made = await answer.json()
        await asyncio.sleep(0.3)
        async with http.get(path) as answer:
            state = await answer.json()
        assert state["connected"] and state["counters"] == {}  # nothing is drawn for who isn't there yet
        await connection.setRemoteDescription(aiortc.RTCSessionDescription(**made))
        pictures, sounds = await receive(connection)
        assert pictures and np.abs(sounds[-1].to_ndarray()).max() >= 3000
        async with http.post(f"{path}/offer", json=offer) as answer:
            assert answer.status == 409
        await connection.close()
        async with http.delete(path) as answer:
            assert answer.status == 204

    server.talk(work)


GARBAGE = [
    "", "no sdp", "v=0\r\n", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video x y z\r\n",
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    "\x00" * 5000, "m=audio 9 RTP/AVP 0\r\n" * 2000,
]  # fmt: skip


def test_garbage_is_refused(server: Any) -> None:
    """No offer that is none is answered with more than a 4xx, and no session stays."""

    async def work(http: aiohttp.ClientSession) -> list[int]:
        statuses = []
        for sdp in GARBAGE:
            headers = {"Content-Type": "application/sdp"}
            async with http.post("/whep/ada", data=sdp.encode(), headers=headers) as answer:
                statuses.append(answer.status)
        async with http.post(
            "/whep/..%2f..", data=b"v=0", headers={"Content-Type": "application/sdp"}
        ) as answer:
            statuses.append(answer.status)
        return statuses

    statuses = server.talk(work)
    assert all(400 <= status < 500 for status in statuses), statuses
    assert not len(server.sessions)


def test_datagram_sockets_stay_in_their_range() -> None:
    """Any port is one of the range, a taken one is passed over, and a full range says so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        first = taken.getsockname()[1]
        loop = PortRangeLoop((first, first + 2))

        async def bind() -> Any:
            return await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))

        made = [loop.run_until_complete(bind()) for _ in range(2)]
        ports = {transport.get_extra_info("sockname")[1] for transport, _ in made}
        assert ports == {first + 1, first + 2}
        with pytest.raises(OSError, match="--udp-ports"):
            loop.run_until_complete(bind())
        for transport, _ in made:
            transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
