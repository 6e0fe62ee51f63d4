"""The web application: its parts, its start and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from nldf_engine.apps.server import control, page, socket, webrtc
from nldf_engine.apps.server.access import guard, problem
from nldf_engine.apps.server.ports import PortRangeLoop
from nldf_engine.apps.server.sessions import Sessions, Trouble
from nldf_engine.apps.server.settings import BODY, Settings
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.memory import keep_loaded
from nldf_engine.base.signals import HANG_UP, leave_terminal

LOG = logging.getLogger("nldf.serve")
SHUTDOWN_SECONDS = 2.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def worth_logging(record: logging.LogRecord) -> bool:
    """Whether a record of aiohttp's is about us: requests that are none are answered by 400, and their
    tracebacks would let anybody fill the log."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON, {"problem": text}; one that nobody foresaw is logged, and says nothing of us."""
    try:
        return await handler(request)
    except Trouble as trouble:
        return problem(trouble.status, trouble.problem)
    except web.HTTPException as error:
        kept = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return problem(error.status, error.reason, **kept)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        LOG.exception("%s %s failed", request.method, request.path)
        return problem(500, "the server failed; its log says why")


def make_app(settings: Settings) -> web.Application:
    """The application of these settings; workers start with it and end with it.

    Raises:
        ValueError: the settings do not go together.
    """
    settings.check()
    logging.getLogger("aiohttp.server").addFilter(worth_logging)
    app = web.Application(middlewares=[as_json, guard(settings)], client_max_size=BODY)
    app[control.SESSIONS] = Sessions(settings)
    app[webrtc.PEERS] = {}
    app.add_routes(control.ROUTES)
    app.add_routes(socket.ROUTES)
    app.add_routes(webrtc.ROUTES)
    if settings.demo:
        app.add_routes(page.routes())

    async def living(app: web.Application) -> AsyncIterator[None]:
        await app[control.SESSIONS].start()
        webrtc.load()
        yield
        await webrtc.close_all(app)
        await app[control.SESSIONS].stop()

    async def say_goodbye(app: web.Application) -> None:
        for session in app[control.SESSIONS]:
            app[control.SESSIONS].end(session, "the server stops")

    app.cleanup_ctx.append(living)
    app.on_shutdown.append(say_goodbye)
    return app


def open_tls(settings: Settings) -> ssl.SSLContext | None:
    """The context of the TLS files, or None without them.

    Raises:
        FileProblem: they can't be used.
    """
    if settings.tls is None:
        return None
    certificate, key = settings.tls
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise FileProblem(
            certificate, f"it can't be used with the key {key} ({error})",
            "give --tls-cert a PEM certificate with its chain, and --tls-key its key without a password",
        ) from error  # fmt: skip
    return context


def serve(settings: Settings, ready: Callable[[str], None]) -> dict[str, Any]:
    """Serves until a signal ends it (SIGINT, SIGTERM or SIGHUP); returns what there was to do, in numbers.

    Args:
        settings: what is served.
        ready: is called with the URL when clients may come.

    Raises:
        FileProblem, NldfError: TLS files or an avatar that can't be used.
        OSError: the port can't be taken.
    """
    context, app = open_tls(settings), make_app(settings)
    ports = settings.ice.ports
    loop: Any = asyncio.new_event_loop() if ports is None else PortRangeLoop(ports)
    asyncio.set_event_loop(loop)

    def hang_up() -> None:
        leave_terminal()
        os.kill(os.getpid(), signal.SIGTERM)

    if HANG_UP is not None and signal.getsignal(HANG_UP) is not signal.SIG_IGN:
        loop.add_signal_handler(HANG_UP, hang_up)
    scheme = "http" if context is None else "https"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host

    def say(*_: Any) -> None:
        keep_loaded()
        ready(f"{scheme}://{host}:{settings.port}")

    web.run_app(
        app, host=settings.host, port=settings.port, ssl_context=context, print=say, access_log=None,
        loop=loop, shutdown_timeout=SHUTDOWN_SECONDS,
    )  # fmt: skip
    return app[control.SESSIONS].summary()
