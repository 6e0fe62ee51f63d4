"""WebRTC: an offer in, an answer out; a microphone's track in, picture and sound out.

`/sessions/{id}/offer` takes a browser's offer as JSON, `/whep/{avatar}` any WHEP player's as SDP.
"""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import logging
import secrets
from typing import Any

import numpy as np
from aiohttp import web

from nldf_engine.apps.server import messages as m
from nldf_engine.apps.server.control import SESSIONS, body_of, read_json, session_of
from nldf_engine.apps.server.encoders import Raw
from nldf_engine.apps.server.openapi import described
from nldf_engine.apps.server.sessions import ServerSession, Sessions, Trouble, Wish
from nldf_engine.apps.server.settings import TEXT, Ice
from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import MissingBackend

LOG = logging.getLogger("nldf.serve")
RATE = 48_000
PIECE = 960  # samples of a packet of Opus: 20 ms
PICTURE_CLOCK = 90_000
CONNECT_SECONDS = 20.0
GONE = ("failed", "closed", "disconnected")
PEERS: web.AppKey[dict[str, Peer]] = web.AppKey("peers", dict)
ROUTES = web.RouteTableDef()


def require_aiortc() -> Any:
    """The module aiortc.

    Raises:
        MissingBackend: it is not installed.
    """
    try:
        import aiortc
    except ImportError as error:
        raise MissingBackend("aiortc, which speaks WebRTC, is not installed",
                             "pip install 'nldf_engine[serve]'") from error  # fmt: skip
    return aiortc


def load() -> None:
    """Imports aiortc where it is installed: else the first offer would, and everyone would wait for it."""
    try:
        require_aiortc()
    except MissingBackend:
        pass  # an offer is answered with what is missing
    except Exception as error:  # an installation that is broken: others than WebRTC can do without it
        LOG.warning("aiortc, which speaks WebRTC, can't be loaded: %r", error)


class Peer:
    """One connection by WebRTC: takes a session's ticks, and pushes what its microphone says.

    Args:
        session: with raw pictures and sound at 48 kHz.
        ice: how it finds its way.
    """

    def __init__(self, session: ServerSession, ice: Ice) -> None:
        aiortc = require_aiortc()
        servers = [
            aiortc.RTCIceServer(urls=[url], username=ice.username, credential=ice.password)
            for url in ice.servers
        ]
        self.session = session
        policy = aiortc.RTCIceTransportPolicy
        self.connection = aiortc.RTCPeerConnection(
            aiortc.RTCConfiguration(servers, policy.RELAY if ice.relay else policy.ALL)
        )
        self.over = asyncio.Event()
        self._pictures, self._sounds = _track("video"), _track("audio")
        self._tasks: list[asyncio.Task[None]] = []
        self._ticks: asyncio.Queue[m.Tick | None] | None = None  # while it takes the session's frames
        self.watching: asyncio.Task[None] | None = None  # lets go of everything when it is over

    async def answer(self, sdp: str) -> str:
        """The SDP that answers an offer.

        Raises:
            Trouble: the offer is none, or has no place for what we send.
        """
        aiortc = require_aiortc()
        connection = self.connection

        @connection.on("track")
        def on_track(track: Any) -> None:
            if track.kind == "audio":
                self._tasks.append(asyncio.create_task(self._listen(track)))

        @connection.on("connectionstatechange")
        async def on_state() -> None:
            if connection.connectionState in GONE:
                self.over.set()
            else:
                self._run()

        try:
            await connection.setRemoteDescription(aiortc.RTCSessionDescription(sdp, "offer"))
            kinds = {transceiver.kind for transceiver in connection.getTransceivers()}
            if not kinds & {"audio", "video"}:
                raise ValueError("it has neither audio nor video")
            for track in (self._pictures, self._sounds):
                if track.kind in kinds:
                    connection.addTrack(track)
            await connection.setLocalDescription(await connection.createAnswer())
        except Exception as error:  # whatever a hostile SDP does to the parser is the offer's fault
            LOG.info("an offer was refused: %r", error)
            raise Trouble(
                400, f"the offer can't be used ({type(error).__name__}: {str(error)[:200]})"
            ) from error
        self._ticks = self.session.attach()
        self._tasks.append(asyncio.create_task(self._feed(self._ticks)))
        self._run()
        return str(connection.localDescription.sdp)

    def _run(self) -> None:
        """Lets the session's clock run once there is a connection: before, nobody would see its frames."""
        if self._ticks is not None and self.connection.connectionState == "connected":
            self.session.run()

    async def _feed(self, ticks: asyncio.Queue[m.Tick | None]) -> None:
        try:
            shown = 0
            while (tick := await ticks.get()) is not None:
                if tick.epoch < shown:
                    continue
                if tick.epoch > shown:  # what waits in the tracks is from before an interruption
                    self._pictures.clear()
                    self._sounds.clear()
                shown = tick.epoch
                self._pictures.put(tick)
                self._sounds.put(tick)
        finally:
            self.over.set()

    async def _listen(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError

        with contextlib.suppress(MediaStreamError):
            while not self.over.is_set():
                frame = await track.recv()
                samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
                self.session.push(samples.astype("<i2").tobytes(), frame.sample_rate, samples.shape[1])
                self.session.keep_up()

    async def close(self) -> None:
        """Ends the connection and lets go of the session."""
        self.over.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._ticks is not None:
            self._ticks = None
            self.session.detach()
        await self.connection.close()


def _track(kind: str) -> Any:
    """A track of aiortc that gives what is put into it: pictures, or sound in pieces of 20 ms."""
    aiortc = require_aiortc()
    import av

    class Track(aiortc.MediaStreamTrack):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.kind = kind
            self._waiting: asyncio.Queue[m.Tick] = asyncio.Queue()
            self._pieces: list[Any] = []
            self._given = 0.0  # when the last piece was

        def put(self, tick: m.Tick) -> None:
            """Takes the next tick; a peer that does not fetch loses the oldest ones."""
            if kind == "audio" or tick.picture:
                if self._waiting.qsize() >= 10:
                    self._waiting.get_nowait()
                self._waiting.put_nowait(tick)

        def clear(self) -> None:
            """Drops what waits."""
            self._pieces.clear()
            while not self._waiting.empty():
                self._waiting.get_nowait()

        async def recv(self) -> Any:
            """The next frame, as aiortc fetches it.

            The later pieces of a tick's sound follow at their pace: a receiver would take two at once for an
            uneven network, and wait for it; and what the time stamps say of sound against pictures goes by
            the moment at which each is sent.
            """
            loop = asyncio.get_running_loop()
            while True:
                first = not self._pieces
                if first:
                    self._pieces = _pieces_of(av, kind, await self._waiting.get())
                elif self._waiting.empty():
                    await asyncio.sleep(max(0.0, self._given + PIECE / RATE - loop.time()))
                if self._pieces:  # else they were cleared meanwhile
                    self._given = loop.time()
                    return self._pieces.pop(0)

    return Track()


def _pieces_of(av: Any, kind: str, tick: m.Tick) -> list[Any]:
    if kind == "video":
        frame = av.VideoFrame.from_ndarray(Raw.decode(tick.picture), "rgb24")
        frame.pts = round(tick.number * PICTURE_CLOCK / FPS)
        frame.time_base = fractions.Fraction(1, PICTURE_CLOCK)
        return [frame]
    samples = np.frombuffer(tick.sound, "<i2")
    made = []
    for first in range(0, len(samples), PIECE):
        piece = av.AudioFrame.from_ndarray(samples[first : first + PIECE][None], "s16", "mono")
        piece.sample_rate = RATE
        piece.pts = tick.number * len(samples) + first
        piece.time_base = fractions.Fraction(1, RATE)
        made.append(piece)
    return made


async def _connect(app: web.Application, session: ServerSession, sdp: str, own: bool) -> tuple[str, str]:
    """(name of the peer, SDP of the answer); the peer lives on until it goes or its session ends."""
    wish = session.wish
    if (wish.video, wish.rate, wish.sound) != ("raw", RATE, "pcm"):
        raise Trouble(409, 'WebRTC needs a session of {"video": "raw", "rate": 48000, "sound": "pcm"}')
    if session.attached:
        raise Trouble(409, "another connection takes this session's frames")
    sessions: Sessions = app[SESSIONS]
    peer = Peer(session, sessions.settings.ice)
    try:
        answer = await peer.answer(sdp)
    except BaseException:
        await peer.close()
        raise
    name = secrets.token_urlsafe(12)
    app[PEERS][name] = peer

    async def watch() -> None:
        try:
            await peer.over.wait()
        finally:
            app[PEERS].pop(name, None)
            await peer.close()
            if own:
                sessions.end(session, "its connection has gone")

    def give_up() -> None:
        if peer.connection.connectionState in ("new", "connecting"):
            peer.over.set()

    asyncio.get_running_loop().call_later(CONNECT_SECONDS, give_up)
    peer.watching = asyncio.create_task(watch())
    return name, answer


@ROUTES.post("/sessions/{id}/offer")
@described(
    "Connects by WebRTC: a browser's offer, answered", body="description", answer="description",
    problems=(400, 404, 409, 410, 413, 422),
)  # fmt: skip
async def offer(request: web.Request) -> web.Response:
    """{"sdp": ..., "type": "answer"}."""
    session = session_of(request)
    given = read_json(await body_of(request, TEXT))
    if not isinstance(given, dict) or given.get("type") != "offer" or not isinstance(given.get("sdp"), str):
        raise Trouble(422, 'expected {"type": "offer", "sdp": "..."}')
    _, answer = await _connect(request.app, session, given["sdp"], own=False)
    return web.json_response({"type": "answer", "sdp": answer})


@ROUTES.post("/whep/{id}")
@described(
    "WHEP: a player's offer begins a session of the avatar", body="sdp", status=201, kind="application/sdp",
    problems=(400, 404, 413, 415, 503),
)  # fmt: skip
async def whep(request: web.Request) -> web.Response:
    """201 with the answer's SDP; DELETE on its Location ends it. A track of sound that it sends is said."""
    if request.content_type != "application/sdp":
        raise Trouble(415, "expected an offer as application/sdp")
    sdp = (await body_of(request, TEXT)).decode("utf-8", "replace")
    sessions = request.app[SESSIONS]
    wish = Wish(request.match_info["id"], RATE, video="raw", microphone=True)
    session = await sessions.open(wish)
    try:
        name, answer = await _connect(request.app, session, sdp, own=True)
    except BaseException:
        sessions.end(session, "its offer was refused")
        raise
    headers = {"Location": f"/whep/peers/{name}", "Nldf-Session": session.id}
    return web.Response(status=201, text=answer, content_type="application/sdp", headers=headers)


@ROUTES.delete("/whep/peers/{id}")
@described("Ends a WHEP player's connection", status=204, problems=(404,))
async def leave(request: web.Request) -> web.Response:
    """204."""
    peer = request.app[PEERS].get(request.match_info["id"])
    if peer is None:
        raise Trouble(404, "there is no such connection")
    peer.over.set()
    return web.Response(status=204)


async def close_all(app: web.Application) -> None:
    """Ends all connections."""
    await asyncio.gather(*(peer.close() for peer in tuple(app[PEERS].values())))
