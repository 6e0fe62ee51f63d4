"""The websocket: PCM or Opus in; pictures and sound out, a message a tick. docs/serve.md has the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket as sockets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from nldf_engine.apps.server import messages as m
from nldf_engine.apps.server.control import SESSIONS, wish_of
from nldf_engine.apps.server.edits import CHANGES
from nldf_engine.apps.server.opus import RATE as OPUS_RATE
from nldf_engine.apps.server.opus import OpusIn
from nldf_engine.apps.server.pace import Pace
from nldf_engine.apps.server.sessions import ServerSession, Trouble
from nldf_engine.apps.server.settings import MESSAGE

# Codes with which the server closes a connection (4000 to 4999 are an application's own).
REFUSED, DIED, OVER, STALLED = 4400, 4500, 4410, 4408
LOWEST_RATE, HIGHEST_RATE = 8000, 48_000
MOST_CHANNELS = 8
SENDING = 1 << 17
"""Bytes that the system may hold back for a client: what is in there can't be interrupted any more."""
PIECE_SECONDS = 0.1
"""A microphone sends pieces of at most so much; more at once is a file."""
MESSAGES, MESSAGES_AT_ONCE = 1000.0, 100
"""A client's messages a second, and at once; what comes faster waits in its connection."""
BEAT = 15.0
GOODBYE = 1.0
"""Seconds that a client has to answer a close."""
ROUTES = web.RouteTableDef()


class Connection:
    """One client of the websocket.

    Args:
        socket: to it.
        session: that it takes the frames of.
        rate, channels: of the sound that it sends.
        opus: decodes what it sends; None for PCM.
        stall: seconds after which it is cut off when it reads nothing.
    """

    def __init__(
        self, socket: web.WebSocketResponse, session: ServerSession, rate: int, channels: int,
        opus: OpusIn | None, stall: float,
    ) -> None:  # fmt: skip
        self._socket, self._session, self._stall = socket, session, stall
        self._rate, self._channels, self._opus = rate, channels, opus
        self._odd = b""
        self._pace = Pace(MESSAGES, MESSAGES_AT_ONCE)

    async def run(self) -> None:
        """Sends and receives until one side has ended."""
        ticks = self._session.attach()
        try:
            self._session.run()
            await self.say("ready", session=self._session.to_json())
            tasks = [asyncio.create_task(self._send(ticks)), asyncio.create_task(self._receive())]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._session.detach()

    async def say(self, what: str, **more: Any) -> None:
        """Sends a text message {"type": what, ...}."""
        await self._socket.send_str(json.dumps({"type": what, **more}))

    async def _send(self, ticks: asyncio.Queue[m.Tick | None]) -> None:
        shown = 0
        while (tick := await ticks.get()) is not None:
            if tick.epoch < shown:  # an interruption overtook it
                continue
            shown = tick.epoch
            try:
                await asyncio.wait_for(self._socket.send_bytes(m.client_frame(tick)), self._stall)
                for position in tick.ended:
                    await self.say("ended", position=position)
            except asyncio.TimeoutError:
                await self._close(STALLED, "the client reads nothing")
                return
        code = DIED if "died" in self._session.ended else OVER
        await self._close(code, self._session.ended)

    async def _close(self, code: int, why: str) -> None:
        with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
            await asyncio.wait_for(self._socket.close(code=code, message=why.encode()[:120]), GOODBYE)

    async def _receive(self) -> None:
        async for message in self._socket:
            if message.type == WSMsgType.BINARY:
                await self._binary(message.data)
            elif message.type == WSMsgType.TEXT:
                await self._text(message.data)
            await self._pace.turn()  # between any two messages others have their turn

    async def _binary(self, data: bytes) -> None:
        try:
            await self._sound(data if self._opus is None else self._opus.push(data))
        except ValueError as error:
            await self.say("error", problem=str(error)[:300])

    async def _sound(self, data: bytes) -> None:
        samples = self._odd + data
        whole = len(samples) // (2 * self._channels) * 2 * self._channels
        self._odd = samples[whole:]
        refused = self._session.push(samples[:whole], self._rate, self._channels)
        spoken = self._session.wish.microphone and whole <= 2 * self._channels * self._rate * PIECE_SECONDS
        if spoken:
            self._session.keep_up()
        if refused:
            await self.say("full", refused=refused)
        await self._session.worker.drain()

    async def _text(self, text: str) -> None:
        try:
            given = msgspec.json.decode(text)
            kind = given.get("type") if isinstance(given, dict) else None
            if kind not in _ANSWERS:
                raise ValueError(f"type: expected one of {', '.join(_ANSWERS)}")
            await _ANSWERS[kind](self, given)
        except (Trouble, ValueError, msgspec.DecodeError, RecursionError) as error:
            await self.say("error", problem=str(error)[:300])

    async def finish(self, given: dict[str, Any]) -> None:
        """The utterance ends."""
        self._begin_sound()
        self._session.finish()

    async def interrupt(self, given: dict[str, Any]) -> None:
        """Everything that was not given out is dropped."""
        self._begin_sound()
        await self.say("interrupted", **await self._session.interrupt())

    def _begin_sound(self) -> None:
        """What comes next does not continue what came before."""
        self._odd = b""
        if self._opus is not None:
            self._opus.restart()

    async def change(self, given: dict[str, Any]) -> None:
        """Edit, background or poses."""
        what = given["type"]
        CHANGES[what](given.get("value"))
        await self._session.change(what, given.get("value"))

    async def ping(self, given: dict[str, Any]) -> None:
        """Answers with what came, and the counters."""
        echo = given.get("echo")
        await self.say("pong", echo=echo if isinstance(echo, int | float | str) else None,
                       session=self._session.to_json())  # fmt: skip


_ANSWERS: dict[str, Callable[[Connection, dict[str, Any]], Awaitable[None]]] = {
    "finish": Connection.finish, "interrupt": Connection.interrupt, "ping": Connection.ping,
    **dict.fromkeys(CHANGES, Connection.change),
}  # fmt: skip


def _whole(query: dict[str, str], name: str, usual: int, low: int, high: int) -> int:
    text = query.pop(name, str(usual))
    if not text.isascii() or not text.isdigit() or not low <= int(text[:9]) <= high:
        raise Trouble(422, f"{name}: expected a whole number from {low} to {high}, got {text[:20]!r}")
    return int(text)


@ROUTES.get("/ws")
async def connect(request: web.Request) -> web.StreamResponse:
    """A websocket for a new session, or for the one that `session` names.

    In the URL: in_codec, in_rate and channels of the sound that the client sends, and what `Wish` has.
    """
    query = {name: value for name, value in request.query.items() if name != "token"}
    sessions = request.app[SESSIONS]
    rate = _whole(query, "in_rate", 16_000, LOWEST_RATE, HIGHEST_RATE)
    codec = query.pop("in_codec", "pcm")
    if codec not in ("pcm", "opus"):
        raise Trouble(422, f"in_codec: expected pcm or opus, got {codec[:20]!r}")
    channels = _whole(query, "channels", 1, 1, 2 if codec == "opus" else MOST_CHANNELS)
    opus = OpusIn(channels) if codec == "opus" else None
    rate = rate if opus is None else OPUS_RATE
    name = query.pop("session", None)
    own = name is None
    socket = web.WebSocketResponse(timeout=GOODBYE, heartbeat=BEAT, max_msg_size=MESSAGE, compress=False)
    if not socket.can_prepare(request).ok:
        raise Trouble(426, "expected a websocket")
    session = await sessions.open(wish_of(query, text=True)) if name is None else sessions.get(name)
    if session.attached:
        raise Trouble(409, "another connection takes this session's frames")
    try:
        with contextlib.suppress(ConnectionError):  # it may have gone while its session was begun
            await socket.prepare(request)
            wire = None if request.transport is None else request.transport.get_extra_info("socket")
            if wire is not None:
                wire.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, SENDING)
            stall = sessions.settings.limits.stall
            await Connection(socket, session, rate, channels, opus, stall).run()
    finally:
        if own:
            sessions.end(session, "its connection has gone")
    return socket
