"""The sessions of this server: each in one worker, and with at most one connection that takes its frames."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nldf_engine.apps.server import messages as m
from nldf_engine.apps.server.encoders import ENCODERS, OPUS_RATES, SOUNDS
from nldf_engine.apps.server.pace import Pace
from nldf_engine.apps.server.settings import Settings
from nldf_engine.apps.server.workers import Died, Refused, WorkerPool, WorkerProcess
from nldf_engine.base.clock import FPS
from nldf_engine.engine.live.counters import Counters

LOG = logging.getLogger("nldf.serve")
SWEEP = 1.0  # seconds between two looks for sessions whose time is over
WAITING = 10  # ticks that wait for a slow client at most; then pictures are left out, and then sound
COUNTED = ("frames", "late", "skipped", "underflows", "interruptions")
LOWEST_RATE, HIGHEST_RATE = 8000, 48_000
CHUNK = 1 << 16  # bytes of sound that are handed to a worker at once
# A microphone's sound that waits for longer than MICROPHONE_SECONDS is dropped. Of what never waited for less
# than BACKLOG in the last ticks, all but KEPT: it came in a burst, and would be late for ever.
MICROPHONE_SECONDS, BACKLOG, KEPT = 0.5, 0.1, 0.04
LOOKED_BACK = 25
CHANGES = 4 * FPS  # edits, backgrounds and poses a second; a frame shows the last of those before it
# Sound that comes within TOGETHER seconds goes to the worker as one message, and less than so much of it
# waits for more, for PATIENCE seconds at most.
TOGETHER, PATIENCE = 0.005, 0.02


class Trouble(Exception):
    """A request that can't be met.

    Args:
        status: of HTTP.
        problem: for the client.
    """

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status, self.problem = status, problem


@dataclass(frozen=True)
class Wish:
    """What a client wants of a session.

    Args:
        avatar: by name; None for the only or first one.
        rate: samples a second of the sound that it gets.
        size: width of the pictures; None for the avatar's own.
        video: one of ENCODERS.
        quality: of JPEG or H.264, 1 to 100.
        sound: one of SOUNDS, that it gets.
        microphone: the sound it sends is a microphone's: lips do not follow the noise of its room.
    """

    avatar: str | None = None
    rate: int = 48_000
    size: int | None = None
    video: str = "jpeg"
    quality: int = 85
    sound: str = "pcm"
    microphone: bool = False


class ServerSession:
    """One session, as seen from the server.

    Args:
        number: that the worker knows it by.
        worker: that renders it.
        wish: what it is like.
        avatar: its name.
        said: what the worker answered: "latency", seconds from sound to its frame, and "size", width and
            height of its pictures.
        most: seconds of sound that may wait.

    Attributes:
        id: that clients know it by; not to be guessed.
        ended: why it has ended; empty while it lives.
    """

    def __init__(
        self, number: int, worker: WorkerProcess, wish: Wish, avatar: str, said: dict[str, Any], most: float
    ) -> None:  # fmt: skip
        self.id = secrets.token_urlsafe(12)
        self.number, self.worker, self.wish, self.avatar = number, worker, wish, avatar
        self.latency, self.size, self._most = said["latency"], said["size"], most
        self.began = self.touched = self.left = time.monotonic()
        self.ended = ""
        self.over = asyncio.Event()
        self.counters: dict[str, Any] = {}
        self.queued = 0.0
        self.epoch = 0
        self.dropped_ticks = 0
        self._interruptions, self._interrupting = 0, Pace(FPS)
        self._changing = Pace(CHANGES, round(FPS))
        self._sent = self._received = 0  # microseconds of sound: handed over, and known to have arrived
        self._gathered, self._kind = bytearray(), (LOWEST_RATE, 1)  # sound to be handed over; rate, channels
        self._handed = 0.0  # when some was
        self._later: asyncio.TimerHandle | None = None
        self._ticks: asyncio.Queue[m.Tick | None] | None = None
        self._waited: deque[float] = deque(maxlen=LOOKED_BACK)

    # Sound in.

    @property
    def room(self) -> float:
        """Seconds of sound that it takes now, sound on its way to the worker counted."""
        rate, channels = self._kind
        gathered = len(self._gathered) / (2 * channels * rate)
        return self._most - self.queued - (self._sent - self._received) / 1e6 - gathered

    def push(self, samples: bytes, rate: int, channels: int) -> float:
        """Hands sound (16-bit PCM, whole frames) over; returns the seconds that did not fit.

        What comes soon after the last, or is next to nothing, goes with what follows: thousands of tiny
        pieces take the other sessions of its worker no time.
        """
        self.touched = time.monotonic()
        width = 2 * channels
        fits = max(0, int(self.room * rate)) * width
        if self._kind != (rate, channels):
            self._hand_over()
            self._kind = rate, channels
        self._gathered += samples[:fits]
        little = len(self._gathered) < TOGETHER * rate * width
        wait = self._handed + (PATIENCE if little else TOGETHER) - self.touched
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if wait <= 0 or len(self._gathered) >= CHUNK:
            self._hand_over()
        else:
            self._later = asyncio.get_running_loop().call_later(wait, self._hand_over)
        return max(0, len(samples) - fits) / width / rate

    def _hand_over(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        sound, self._gathered, (rate, channels) = bytes(self._gathered), bytearray(), self._kind
        width = 2 * channels
        step = CHUNK // width * width
        for first in range(0, len(sound), step):
            piece = sound[first : first + step]
            self._sent += round(1e6 * len(piece) / width / rate)
            self.worker.post(m.Sound(self.number, rate, channels, piece))
            self._handed = time.monotonic()

    def finish(self) -> None:
        """Ends the utterance."""
        self.touched = time.monotonic()
        self._hand_over()
        self.worker.post(m.Finish(self.number))

    def trim(self, seconds: float) -> None:
        """Drops what has waited for too long."""
        self._hand_over()
        self.worker.post(m.Trim(self.number, seconds))

    def keep_up(self) -> None:
        """Drops what of a microphone's sound waits in vain; for every piece of it that came."""
        least = min(self._waited) if len(self._waited) == LOOKED_BACK else 0.0
        if least > BACKLOG:
            self._trim_to(max(KEPT, self.queued - least + KEPT))
            self._waited.clear()
        elif self.queued > MICROPHONE_SECONDS:
            self._trim_to(MICROPHONE_SECONDS / 4)

    def _trim_to(self, seconds: float) -> None:
        self.trim(seconds)
        self.queued = seconds  # so that it is done once; the next tick says what it really is

    async def interrupt(self) -> dict[str, Any]:
        """Drops all sound and all frames that were not sent; returns epoch, position and seconds dropped.

        Each makes the worker draw a frame at rest, so that there is one a tick at most: further ones wait.
        """
        await self._interrupting.turn()
        self.touched = time.monotonic()
        self._hand_over()
        self._interruptions += 1  # from now on, also before the worker knows of it, older ticks are stale
        if self._ticks is not None:
            while not self._ticks.empty():
                self._ticks.get_nowait()
        value = dict(await self._call(m.Interrupt))
        self.queued, self._received = 0.0, value.pop("received")
        return value

    async def change(self, what: str, value: Any) -> None:
        """Replaces edit, background or poses; CHANGES a second at most, further ones wait.

        Raises:
            Trouble: it can't be used.
        """
        await self._changing.turn()
        self.touched = time.monotonic()
        await self._call(m.Change, what, value)

    async def _call(self, kind: Callable[..., m.Message], *values: Any) -> Any:
        if self.ended:
            raise Trouble(410, f"the session has ended: {self.ended}")
        try:
            return await self.worker.call(kind, self.number, *values)
        except Refused as error:
            raise Trouble(422, str(error)) from error
        except Died:
            raise Trouble(410, "the session has ended: its worker has died") from None

    # Frames out.

    def attach(self) -> asyncio.Queue[m.Tick | None]:
        """The queue of the ticks that come once the clock runs (`run`); None in it is the session's end.

        Raises:
            Trouble: another connection has it, or it has ended.
        """
        if self.ended:
            raise Trouble(410, f"the session has ended: {self.ended}")
        if self._ticks is not None:
            raise Trouble(409, "another connection takes this session's frames")
        self._ticks = asyncio.Queue()
        return self._ticks

    def run(self) -> None:
        """Lets the clock run, until the connection has gone."""
        self.worker.post(m.Run(self.number, True))

    def detach(self) -> None:
        """The connection has gone: the clock stops until another one comes."""
        self._ticks, self.left = None, time.monotonic()
        self.worker.post(m.Run(self.number, False))

    @property
    def attached(self) -> bool:
        """Whether a connection takes its frames."""
        return self._ticks is not None

    def deliver(self, tick: m.Tick) -> None:
        """Takes a tick from the worker; a client that is too slow loses the oldest ones."""
        if tick.epoch < self._interruptions:  # an interruption overtook it
            return
        self.queued, self._received, self.epoch = tick.queued, tick.received, tick.epoch
        self._waited.append(tick.queued)
        if self._ticks is None:
            return
        while self._ticks.qsize() >= WAITING:
            self._ticks.get_nowait()
            self.dropped_ticks += 1
        self._ticks.put_nowait(tick)

    def end(self, why: str) -> None:
        """Marks it as ended, and wakes up who waits for it."""
        if not self.ended:
            if self._later is not None:
                self._later.cancel()
            self.ended = why
            self.over.set()
            if self._ticks is not None:
                self._ticks.put_nowait(None)

    def to_json(self) -> dict[str, Any]:
        """What clients may know."""
        wish = self.wish
        return {
            "id": self.id, "avatar": self.avatar, "rate": wish.rate, "size": self.size, "video": wish.video,
            "sound": wish.sound, "fps": FPS, "latency": self.latency, "connected": self.attached,
            "queued": self.queued, "room": max(0.0, self.room), "epoch": self.epoch,
            "dropped_ticks": self.dropped_ticks, "counters": self.counters,
        }  # fmt: skip


class Sessions:
    """All sessions, and the workers that they are in.

    Args:
        settings: of the server.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pool = WorkerPool(settings, self._message, self._death)
        self._numbers = itertools.count()
        self._by_id: dict[str, ServerSession] = {}
        self._by_number: dict[int, ServerSession] = {}
        self._opening = 0
        self.begun = 0
        self.ends: dict[str, int] = {}
        self.past = Counters()  # of sessions that have ended
        self._sweeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Any:
        return iter(tuple(self._by_id.values()))

    async def start(self) -> None:
        """Starts the workers.

        Raises:
            NldfError: one of them can't use an avatar.
        """
        await self.pool.start()
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Ends all sessions and workers."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        for session in self:
            self.end(session, "the server stops")
        await self.pool.stop()

    def get(self, id_: str) -> ServerSession:
        """The session of this id.

        Raises:
            Trouble: there is none.
        """
        try:
            return self._by_id[id_]
        except KeyError:
            raise Trouble(404, "there is no such session") from None

    async def open(self, wish: Wish) -> ServerSession:
        """Begins a session.

        Raises:
            Trouble: a wrong wish, or no room for another session.
        """
        avatar = self._check(wish)
        limit = self.settings.limits.sessions
        if len(self) + self._opening >= limit:
            raise Trouble(429, f"all {limit} sessions are taken; try again later")
        self._opening += 1
        try:
            worker, number = self.pool.choose(), next(self._numbers)
            worker.load += 1
            try:
                said = await worker.call(
                    m.Open, number, avatar, wish.rate, wish.size, wish.video, wish.quality, wish.sound,
                    wish.microphone, self.settings.limits.queue,
                )  # fmt: skip
            except BaseException:
                worker.load -= 1
                worker.post(m.Close(number))
                raise
        except Refused as error:
            raise Trouble(422, str(error)) from error
        except Died:
            raise Trouble(503, "no worker is ready; try again in a moment") from None
        finally:
            self._opening -= 1
        session = ServerSession(number, worker, wish, avatar, said, self.settings.limits.queue)
        self._by_id[session.id] = self._by_number[number] = session
        self.begun += 1
        return session

    def _check(self, wish: Wish) -> str:
        avatars = self.settings.avatars
        name = next(iter(avatars)) if wish.avatar is None else wish.avatar
        if name not in avatars:  # a name in a table, and never a path
            raise Trouble(404, f"there is no such avatar; there are {', '.join(avatars)}")
        if not LOWEST_RATE <= wish.rate <= HIGHEST_RATE or wish.rate % FPS:
            raise Trouble(422, f"rate: expected a multiple of 25 from {LOWEST_RATE} to {HIGHEST_RATE}")
        most = self.settings.limits.size
        if wish.size is not None and not 16 <= wish.size <= most:
            raise Trouble(422, f"size: expected a width of 16 to {most} pixels")
        if wish.video not in ENCODERS:
            raise Trouble(422, f"video: expected one of {', '.join(ENCODERS)}")
        if wish.sound not in SOUNDS:
            raise Trouble(422, f"sound: expected one of {', '.join(SOUNDS)}")
        if wish.sound == "opus" and wish.rate not in OPUS_RATES:
            raise Trouble(422, f"rate: for opus expected one of {', '.join(map(str, OPUS_RATES))}")
        if not 1 <= wish.quality <= 100:
            raise Trouble(422, "quality: expected 1 to 100")
        return name

    def end(self, session: ServerSession, why: str) -> None:
        """Ends a session; `why` is for its client and the counters."""
        if self._by_id.pop(session.id, None) is None:
            return
        self._by_number.pop(session.number, None)
        session.worker.load -= 1
        session.worker.post(m.Close(session.number))
        for name in COUNTED:
            self.past.add(**{name: session.counters.get(name, 0)})
        self.ends[why] = self.ends.get(why, 0) + 1
        session.end(why)
        LOG.info("session %s ends: %s", session.id, why)

    def summary(self) -> dict[str, Any]:
        """Numbers of all sessions that have ended."""
        counts = {name: getattr(self.past, name) for name in COUNTED}
        return {"sessions": self.begun, "ends": self.ends, "restarts": self.pool.restarts, **counts}

    def _message(self, message: m.OfSession) -> None:
        session = self._by_number.get(message.session)
        if session is None:
            return
        if isinstance(message, m.Tick):
            session.deliver(message)
        elif isinstance(message, m.Over):
            self.end(session, message.reason)
        else:
            session.counters = message.counters

    def _death(self, worker: WorkerProcess) -> None:
        for session in self:
            if session.worker is worker:
                self.end(session, "its worker has died")

    async def _sweep(self) -> None:
        limits = self.settings.limits
        while True:
            await asyncio.sleep(SWEEP)
            now = time.monotonic()
            for session in self:
                if not session.attached and now - max(session.left, session.touched) > limits.idle:
                    self.end(session, "nobody was connected")
                elif session.attached and now - session.touched > limits.silent:
                    self.end(session, "no sound came for too long")
