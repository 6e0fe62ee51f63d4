"""HTTP: sessions are made, speak a sound file, are interrupted and changed.

Every handler has its description for OpenAPI beside it (see `openapi.described`).
"""

from __future__ import annotations

import asyncio
import io
from typing import Any, TypeVar

import msgspec
import numpy as np
from aiohttp import web

from nldf_engine.apps.server.edits import CHANGES
from nldf_engine.apps.server.metrics import exposition
from nldf_engine.apps.server.openapi import described, document
from nldf_engine.apps.server.sessions import ServerSession, Sessions, Trouble, Wish
from nldf_engine.apps.server.settings import BODY, TEXT
from nldf_engine.base.json import decode
from nldf_engine.media.containers import reading

SESSIONS: web.AppKey[Sessions] = web.AppKey("sessions", Sessions)
ROUTES = web.RouteTableDef()
FLOATS = ("flt", "fltp", "dbl", "dblp")
"""Formats of FFmpeg whose samples may be no numbers."""
T = TypeVar("T")


async def body_of(request: web.Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        Trouble: it is too large.
    """
    if (request.content_length or 0) > most:
        raise Trouble(413, f"the body has {request.content_length} bytes, and {most} are taken")
    parts, size = [], 0
    async for part in request.content.iter_chunked(1 << 16):
        size += len(part)
        if size > most:
            raise Trouble(413, f"the body has more than {most} bytes")
        parts.append(part)
    return b"".join(parts)


def read_json(text: bytes | str) -> Any:
    """What JSON says.

    Raises:
        Trouble: it is none.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Trouble(400, f"expected JSON: {error}") from error


def wish_of(value: Any, text: bool = False) -> Wish:
    """The wish that JSON, or the query of a URL where `text`, describes.

    Raises:
        Trouble: an unknown key, or a value of another type.
    """
    try:
        return decode(Wish, value, "session", text)
    except ValueError as error:
        raise Trouble(422, str(error)) from error


def session_of(request: web.Request) -> ServerSession:
    """The session that the path names.

    Raises:
        Trouble: there is none.
    """
    return request.app[SESSIONS].get(request.match_info["id"])


@ROUTES.get("/health")
@described("Whether the server lives and can take a session", answer="health", problems=(503,))
async def health(request: web.Request) -> web.Response:
    """200 while a worker is ready, else 503."""
    sessions = request.app[SESSIONS]
    ready = sum(worker.alive for worker in sessions.pool.workers)
    return web.json_response(
        {"ready": bool(ready), "workers": ready, "sessions": len(sessions)}, status=200 if ready else 503
    )


@ROUTES.get("/metrics")
@described("Counters in Prometheus' text format", kind="text/plain")
async def metrics(request: web.Request) -> web.Response:
    """The text that Prometheus reads."""
    text = exposition(request.app[SESSIONS])
    return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


@ROUTES.get("/openapi.json")
@described("This description")
async def openapi(request: web.Request) -> web.Response:
    """The OpenAPI document."""
    return web.json_response(document(request.app))


@ROUTES.get("/avatars")
@described("The avatars, by name", answer="avatars")
async def avatars(request: web.Request) -> web.Response:
    """What clients may know of them."""
    return web.json_response(request.app[SESSIONS].pool.avatars)


@ROUTES.get("/sessions")
@described("All sessions", answer="sessions")
async def sessions(request: web.Request) -> web.Response:
    """Their states."""
    return web.json_response([session.to_json() for session in request.app[SESSIONS]])


@ROUTES.post("/sessions")
@described("Begins a session", body="wish", answer="session", status=201, problems=(400, 404, 413, 422, 503))
async def begin(request: web.Request) -> web.Response:
    """201 and its state; a connection takes its frames by its id."""
    text = await body_of(request, TEXT)
    session = await request.app[SESSIONS].open(wish_of(read_json(text) if text else {}))
    return web.json_response(session.to_json(), status=201, headers={"Location": f"/sessions/{session.id}"})


@ROUTES.get("/sessions/{id}")
@described("The state of a session", answer="session", problems=(404,))
async def state(request: web.Request) -> web.Response:
    """Its counters, queue and clock."""
    return web.json_response(session_of(request).to_json())


@ROUTES.delete("/sessions/{id}")
@described("Ends a session", status=204, problems=(404,))
async def end(request: web.Request) -> web.Response:
    """204."""
    request.app[SESSIONS].end(session_of(request), "its client ended it")
    return web.Response(status=204)


@ROUTES.post("/sessions/{id}/say")
@described(
    "Says a sound file (wav, mp3, ogg, ...)", body="sound", answer="said", status=202,
    problems=(404, 413, 422),
)  # fmt: skip
async def say(request: web.Request) -> web.Response:
    """202 when the whole file waits to be said."""
    session = session_of(request)
    content = await body_of(request, BODY)
    room = session.room
    samples, rate = await asyncio.to_thread(read_file, content, room)
    missing = session.push(samples, rate, 1)
    session.finish()
    seconds = len(samples) / 2 / rate
    return web.json_response({"seconds": seconds - missing, "room": max(0.0, session.room)}, status=202)


@ROUTES.post("/sessions/{id}/interrupt")
@described("Drops all sound; the next frame is at rest", answer="stopped", problems=(404, 410))
async def interrupt(request: web.Request) -> web.Response:
    """Where in the utterance it was, and how much was dropped."""
    return web.json_response(await session_of(request).interrupt())


def _change(what: str, text: str) -> None:
    @ROUTES.put(f"/sessions/{{id}}/{what}")
    @described(text, body=what, status=204, problems=(400, 404, 410, 413, 422))
    async def change(request: web.Request) -> web.Response:
        session = session_of(request)
        value = read_json(await body_of(request, TEXT))
        try:
            CHANGES[what](value)  # what is wrong with it needs no worker to say
        except ValueError as error:
            raise Trouble(422, str(error)) from error
        await session.change(what, value)
        return web.Response(status=204)


_change("edit", "Changes how head, eyes, mouth and look are, from the next frame on")
_change("background", "Changes the background: null, #rrggbb or a colour's name")
_change("poses", 'Changes how the head moves: "track" or "still"')


def read_file(content: bytes, most: float) -> tuple[bytes, int]:
    """A sound file as mono 16-bit PCM and its rate.

    Args:
        content: the file.
        most: seconds that it may last.

    Raises:
        Trouble: it is no sound, or too long.
    """
    import av

    parts, rate, count = [], 0, 0
    try:
        with reading(io.BytesIO(content)) as container:
            if not container.streams.audio:
                raise Trouble(422, "the body holds no sound")
            resampler: Any = None
            for frame in container.decode(container.streams.audio[0]):
                if frame.format.name in FLOATS and not np.isfinite(frame.to_ndarray()).all():
                    raise Trouble(422, "the sound has samples that are no finite numbers")
                if resampler is None:
                    rate = min(max(frame.sample_rate, 8000), 48_000)
                    resampler = av.AudioResampler("s16", "mono", rate)
                for made in resampler.resample(frame):
                    parts.append(made.to_ndarray()[0])
                    count += len(parts[-1])
                if count > most * rate:
                    raise Trouble(413, f"the sound lasts longer than the {most:.0f} s that may wait now")
            parts += [made.to_ndarray()[0] for made in resampler.resample(None)] if resampler else []
    except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
        raise Trouble(422, f"the body is no sound file that FFmpeg can read ({error})") from error
    if not count:
        raise Trouble(422, "the body holds no sound")
    return np.concatenate(parts).astype("<i2").tobytes(), rate
