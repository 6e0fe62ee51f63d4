"""The processes that render: started, watched, and replaced when one dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from nldf_engine.apps.server import messages as m
from nldf_engine.apps.server.settings import Settings, cores
from nldf_engine.base.errors import NldfError

LOG = logging.getLogger("nldf.serve")
START_SECONDS = 120.0
CALL_SECONDS = 20.0
END_SECONDS = 5.0
# A worker that dies again and again is started again ever later.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
BUFFER = 1 << 20


def threads(workers: int) -> int:
    """Threads that each of so many workers computes with: all of the machine's together."""
    return max(1, cores() // workers)


class Died(Exception):
    """The worker of a session has ended."""


class Refused(Exception):
    """A worker can't do what was wanted; the message is for the client."""


class WorkerProcess:
    """One process and the calls that wait for its answers.

    Args:
        settings: of the server.
        on_message: gets what the worker says of a session.

    Attributes:
        avatars: what the worker said of its avatars.
        load: sessions that it has.
    """

    def __init__(self, settings: Settings, on_message: Callable[[m.OfSession], None]) -> None:
        self._settings, self._on_message = settings, on_message
        self._calls = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.avatars: dict[str, dict[str, Any]] = {}
        self.load = 0
        self.alive = False

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def start(self) -> None:
        """Starts the process and waits until it is ready.

        Raises:
            NldfError: it can't use its avatars, or did not become ready.
        """
        settings = self._settings
        pairs = [f"{name}={folder}" for name, folder in settings.avatars.items()]
        command = [
            sys.executable,
            "-m",
            "nldf_engine.apps.server.worker",
            settings.device,
            settings.precision,
            json.dumps(None if settings.film is None else settings.film.to_json()),
        ]
        self._process = await asyncio.create_subprocess_exec(
            *command, *pairs, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=BUFFER,
            env={**os.environ, "OMP_NUM_THREADS": str(threads(settings.workers))}, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        try:
            first = await asyncio.wait_for(m.read_from_worker(self._out), START_SECONDS)
        except asyncio.TimeoutError:
            first = None
        if not isinstance(first, m.Welcome):
            await self.stop()
            raise NldfError(
                first.problem if isinstance(first, m.Failed) else "a worker process did not start"
            )
        self.avatars, self.alive = first.avatars, True

    async def read(self) -> None:
        """Hands messages on until the process has ended."""
        try:
            while (message := await m.read_from_worker(self._out)) is not None:
                if isinstance(message, m.Reply):
                    future = self._waiting.pop(message.call, None)
                    if future is not None and not future.done():
                        future.set_result(message)
                elif isinstance(message, m.OfSession):
                    self._on_message(message)
        finally:
            self.alive = False
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Died())
            self._waiting.clear()

    def post(self, message: m.Message) -> None:
        """Hands a message over, without waiting."""
        if self.alive:
            self._in.write(m.packed(message))

    async def drain(self) -> None:
        """Waits while too much is on its way to the process."""
        if self.alive:
            with contextlib.suppress(ConnectionError):
                await self._in.drain()

    async def call(self, kind: Callable[..., m.Message], *values: Any) -> Any:
        """Posts `kind(call, *values)` and waits for its answer.

        Raises:
            Died: the process has ended.
            Refused: it could not do it.
        """
        if not self.alive:
            raise Died
        number = next(self._calls)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        self.post(kind(number, *values))
        try:
            reply = await asyncio.wait_for(future, CALL_SECONDS)
        except asyncio.TimeoutError:
            self._waiting.pop(number, None)
            raise Died from None
        if reply.problem:
            raise Refused(reply.problem)
        return reply.value

    async def stop(self) -> None:
        """Ends the process: it ends by itself when its stdin does, else it is killed."""
        self._in.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class WorkerPool:
    """All workers; a dead one is replaced.

    Args:
        settings: of the server.
        on_message: gets what the worker says of a session.
        on_death: is called with a worker that has ended.
    """

    def __init__(
        self, settings: Settings, on_message: Callable[[m.OfSession], None],
        on_death: Callable[[WorkerProcess], None],
    ) -> None:  # fmt: skip
        self._settings, self._on_message, self._on_death = settings, on_message, on_death
        self._tasks: list[asyncio.Task[None]] = []
        self.workers: list[WorkerProcess] = []
        self.restarts = 0

    async def start(self) -> None:
        """Starts all workers.

        Raises:
            NldfError: one of them can't use an avatar.
        """
        made = [WorkerProcess(self._settings, self._on_message) for _ in range(self._settings.workers)]
        done = await asyncio.gather(*(worker.start() for worker in made), return_exceptions=True)
        problems = [result for result in done if isinstance(result, BaseException)]
        if problems:
            await asyncio.gather(*(worker.stop() for worker in made if worker.alive))
            raise problems[0]
        self.workers = made
        self._tasks = [asyncio.create_task(self._keep(worker)) for worker in made]

    @property
    def avatars(self) -> dict[str, dict[str, Any]]:
        """What clients may know of the avatars, by name."""
        return self.workers[0].avatars if self.workers else {}

    def choose(self) -> WorkerProcess:
        """The living worker with the fewest sessions.

        Raises:
            Died: there is none at the moment.
        """
        living = [worker for worker in self.workers if worker.alive]
        if not living:
            raise Died
        return min(living, key=lambda worker: worker.load)

    async def _keep(self, worker: WorkerProcess) -> None:
        pause, loop = FIRST_PAUSE, asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await worker.read()
            self._on_death(worker)
            LOG.warning("worker %d ended; another one is started", worker.pid)
            pause = FIRST_PAUSE if loop.time() - begun > LONGEST_PAUSE else min(LONGEST_PAUSE, 2 * pause)
            place = self.workers.index(worker)
            while True:
                await asyncio.sleep(pause)
                worker = WorkerProcess(self._settings, self._on_message)
                try:
                    await worker.start()
                    break
                except NldfError as error:
                    LOG.error("a worker can't be started again: %s", error)
                    pause = min(LONGEST_PAUSE, 2 * pause)
            self.workers[place] = worker
            self.restarts += 1

    async def stop(self) -> None:
        """Ends all workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self.workers))
