"""A server with two tiny avatars and one worker, which the tests of this folder share."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avatars import tiny_avatar

MISSING = [name for name in ("aiohttp", "aiortc") if importlib.util.find_spec(name) is None]
if MISSING:
    collect_ignore_glob = ["test_*.py"]
    print(f"tests/apps/server: left out, as {', '.join(MISSING)} is not installed (pip install '.[serve]')")


class Running:
    """A server in a thread of its own.

    Args:
        settings: its port is chosen here.
    """

    def __init__(self, settings: Any) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.settings = dataclasses.replace(settings, port=self.port)
        self.url = f"http://127.0.0.1:{self.port}"
        self._ready, self._problem = threading.Event(), []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(120)
        if self._problem:
            raise self._problem[0]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    def _serve(self) -> None:
        from nldf_engine.apps.server.ports import PortRangeLoop

        ports = self.settings.ice.ports
        self._loop = asyncio.new_event_loop() if ports is None else PortRangeLoop(ports)
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        finally:
            self._loop.close()

    async def _run(self) -> None:
        from aiohttp import web

        from nldf_engine.apps.server.app import make_app

        self._over = asyncio.Event()
        try:
            self.app = make_app(self.settings)
            runner = web.AppRunner(self.app, shutdown_timeout=1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
        except BaseException as error:
            self._problem.append(error)
            self._ready.set()
            return
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    @property
    def sessions(self) -> Any:
        """The server's own table, to look at."""
        from nldf_engine.apps.server.control import SESSIONS

        return self.app[SESSIONS]

    def call(self, work: Callable[..., Any], *values: Any) -> None:
        """Has the server's own thread call `work`."""
        self._loop.call_soon_threadsafe(work, *values)

    def talk(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """What `work` of a client's session gives; at most 30 s."""
        import aiohttp

        async def within() -> Any:
            async with aiohttp.ClientSession(self.url, connector=aiohttp.TCPConnector(limit=0)) as http:
                return await asyncio.wait_for(work(http), 30)

        return asyncio.run(within())


@pytest.fixture(scope="session")
def avatars(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two avatars that look different."""
    folder = tmp_path_factory.mktemp("served")
    made = {}
    for name, size in (("ada", 16), ("bob", 24)):
        tiny_avatar(size=size).save(folder / name)
        made[name] = folder / name
    return made


@pytest.fixture(scope="session")
def server(avatars: dict[str, Path]) -> Iterator[Running]:
    """Without a token, with the page, on this machine alone."""
    from nldf_engine.apps.server.settings import Ice, Limits, Settings

    limits = Limits(sessions=6, idle=20, stall=1.0, queue=10.0, requests=1000, size=64)
    with Running(Settings(avatars, demo=True, device="cpu", limits=limits, ice=Ice((42_000, 42_040)))) as it:
        yield it


@pytest.fixture
def serving() -> type[Running]:
    """What runs a server of other settings, in a `with` block."""
    return Running
