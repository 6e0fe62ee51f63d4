"""The page for newcomers: static files of our own, under a strict policy."""

from __future__ import annotations

import asyncio
import functools
import io
import wave
from pathlib import Path

import numpy as np
from aiohttp import web

STATIC = Path(__file__).parent / "static"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "media-src 'self' blob: mediastream:; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


HELLO = "hello, I am an avatar. speak to me, or choose a sound, and I shall say it."


@functools.cache
def hello() -> bytes:
    """A synthesised sentence as a WAV file, for who has neither a microphone nor a sound at hand."""
    from nldf_engine.synthetic import synthesise_speech

    speech = synthesise_speech(HELLO, 6.0, 1)
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(speech.rate)
        file.writeframes((np.clip(speech.samples, -1, 1) * 32_767).astype("<i2").tobytes())
    return content.getvalue()


def routes() -> list[web.RouteDef]:
    """The page and its parts. They are read now: what a request names is only looked up among them."""
    files = {path.name: (path.read_text(encoding="utf-8"), KINDS[path.suffix]) for path in STATIC.iterdir()
             if path.suffix in KINDS}  # fmt: skip

    async def page(request: web.Request) -> web.Response:
        return _file("index.html")

    async def part(request: web.Request) -> web.Response:
        return _file(request.match_info["name"])

    async def sentence(request: web.Request) -> web.Response:
        content = await asyncio.to_thread(hello)
        return web.Response(body=content, content_type="audio/wav", headers=HEADERS)

    def _file(name: str) -> web.Response:
        if name not in files:
            raise web.HTTPNotFound()
        text, kind = files[name]
        return web.Response(text=text, content_type=kind, charset="utf-8", headers=HEADERS)

    return [web.get("/", page), web.get("/static/hello.wav", sentence), web.get("/static/{name}", part)]
