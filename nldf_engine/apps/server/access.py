"""Who may come in: a token, the page's origin, the name that it used for us, and how often it comes."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from nldf_engine.apps.origins import is_known_host, is_own_page
from nldf_engine.apps.server.settings import Settings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPEN = ("/", "/health", "/static/")
"""Paths that need no token: they hold nothing of anybody's."""
ADDRESSES = 4096
"""Addresses whose requests are counted; those that came longest ago are forgotten."""


def problem(status: int, text: str, **headers: str) -> web.Response:
    """An error as JSON: {"problem": text}."""
    return web.json_response({"problem": text}, status=status, headers=headers)


def needs_token(path: str) -> bool:
    """Whether a path is closed to those without a token."""
    return not any(path == open_ or (open_.endswith("/") and open_ != "/" and path.startswith(open_))
                   for open_ in OPEN)  # fmt: skip


def token_of(request: web.Request) -> str | None:
    """The token that a request shows: in its header, or for a websocket, which can't set one, in its URL."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and token:
        return token.strip()
    return request.query.get("token")


def right_origin(settings: Settings, request: web.Request) -> bool:
    """Whether a request comes from no page, from our own, or from one that was allowed (see `origins`)."""
    host, origin = request.headers.get("Host"), request.headers.get("Origin")
    return is_known_host(host, settings.host) and (origin in settings.origins or is_own_page(origin, host))


class Rate:
    """How often each address comes: a bucket of tokens an address.

    Args:
        often: requests a second on the average; twice as many at once.
        clock: gives the time in seconds.
    """

    def __init__(self, often: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._often, self._clock = often, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def takes(self, address: str) -> bool:
        """Whether one more request of this address is let in now."""
        now, most = self._clock(), 2 * self._often
        left, then = self._buckets.pop(address, (most, now))
        left = min(most, left + (now - then) * self._often)
        allowed = left >= 1
        self._buckets[address] = (left - 1 if allowed else left, now)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed


def guard(settings: Settings) -> Any:
    """The middleware that lets requests in."""
    rate = Rate(settings.limits.requests)

    @web.middleware
    async def let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not rate.takes(request.remote or ""):
            return problem(429, "too many requests", **{"Retry-After": "1"})
        if not right_origin(settings, request):
            return problem(403, "this origin may not connect; the server allows others by --origin")
        if needs_token(request.path) and not settings.opens(token_of(request)):
            text = "a token is needed: Authorization: Bearer TOKEN"
            return problem(401, text, **{"WWW-Authenticate": "Bearer"})
        return await handler(request)

    return let_in
