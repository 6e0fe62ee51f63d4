"""A process that renders: its sessions in the order in which their frames are due.

Its threads, the hands, draw frames of different sessions at the same time: kernels and encoders let go of
the interpreter. Where fewer sessions run than there are hands, a frame is drawn by several cores.

Messages come through stdin and go out through stdout; where stdin ends, so does the process. Weights are
mapped from the avatars' files, so that the workers' pages of them are the same memory; everything else of a
session is its own.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nldf_engine.apps.server import messages as m
from nldf_engine.apps.server.edits import CHANGES
from nldf_engine.apps.server.encoders import ENCODERS, SOUNDS, Encoder, Opus, Pcm
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.memory import keep_loaded
from nldf_engine.datasets import Dataset, footage_of
from nldf_engine.engine import Engine, LiveFrame, LiveSession

REPORT = 1.0  # seconds between two reports of a session's counters
BEHIND = 0.04  # seconds from which on a late session is as urgent as one that is later still


@dataclass
class Running:
    """A session of this worker.

    Args:
        live: the session.
        encode: makes bytes of its pictures,
        encode_sound: and of their sound.
        on: whether its clock runs.
        received: microseconds of sound that came so far.
        reported: when its counters were reported.
        drawing: whether a hand draws its next frame.
        began: when that began, or its clock was let run.
    """

    live: LiveSession
    encode: Encoder
    encode_sound: Pcm | Opus
    on: bool = False
    received: int = 0
    reported: float = 0.0
    drawing: bool = False
    began: float = 0.0

    def urgency(self, now: float) -> tuple[float, float]:
        """The session with the smallest is drawn first: the one whose frame is due first; but where several
        are behind, they take turns, so that none waits for ever."""
        due = self.live.due if self.live.number >= 0 else self.began
        return max(due, now - BEHIND), self.began


class Worker:
    """Renders all sessions that it is given.

    Args:
        engines: by the avatars' names.
        out: where messages go.
        hands: threads that render.
        cores: threads that they compute with, all together.
        shown: further arguments of `Engine.live` for every session.
    """

    def __init__(
        self, engines: dict[str, Engine], out: BinaryIO, hands: int = 1, cores: int = 1,
        shown: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._engines, self._out, self._hands, self._cores = engines, out, hands, cores
        self._shown = shown or {}
        self._sessions: dict[int, Running] = {}
        self._inbox: queue.SimpleQueue[m.ToWorker | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._changed = threading.Condition()  # of the sessions, and whether their frames are drawn
        self._over = False

    def send(self, message: m.Message) -> None:
        """Hands a message to the server; from any thread."""
        packed = m.packed(message)
        with self._sending:
            self._out.write(packed)
            self._out.flush()

    def run(self, stream: BinaryIO) -> None:
        """Works until `stream`, where messages come from, ends.

        Raises:
            BrokenPipeError: the server has gone.
        """
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        self.send(m.Welcome({name: about(engine) for name, engine in self._engines.items()}))
        hands = [threading.Thread(target=self._draw, daemon=True) for _ in range(self._hands)]
        for hand in hands:
            hand.start()
        try:
            while (message := self._inbox.get()) is not None:
                self._handle(message)
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            for hand in hands:
                hand.join()

    def _read(self, stream: BinaryIO) -> None:
        try:
            while (message := m.read_to_worker(stream)) is not None:
                self._inbox.put(message)
        finally:
            self._inbox.put(None)

    def _draw(self) -> None:
        """A hand: the next frame that is due, and so on."""
        import torch

        share = 0
        try:
            while (chosen := self._next()) is not None:
                number, running, cores = chosen
                if cores != share:
                    torch.set_num_threads(cores)  # of this thread
                    share = cores
                try:
                    self._tick(number, running)
                except FileProblem as problem:  # the film that it is pasted into
                    print(f"session {number}: {problem}", file=sys.stderr, flush=True)
                    running.on = False
                    self.send(m.Over(number, "the video that it is pasted into can't be read any further"))
                finally:
                    with self._changed:
                        running.drawing = False
                        self._changed.notify_all()
        except BrokenPipeError:
            self._inbox.put(None)
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # as where a kernel crashes: the server starts another worker

    def _next(self) -> tuple[int, Running, int] | None:
        """The session whose frame is due first, when it is, and how many cores draw it; None at the end."""
        with self._changed:
            while not self._over:
                on = [(number, item) for number, item in self._sessions.items() if item.on]
                free = [pair for pair in on if not pair[1].drawing]
                if not free:
                    self._changed.wait()
                    continue
                now = time.monotonic()
                number, running = min(free, key=lambda pair: pair[1].urgency(now))
                if wait := running.live.wait:
                    self._changed.wait(wait)
                    continue
                running.drawing, running.began = True, now
                return number, running, max(1, self._cores // min(len(on), self._hands))
        return None

    def _tick(self, number: int, running: Running) -> None:
        begun = time.perf_counter()
        frame = running.live.take()
        if frame is None:
            return
        picture, key = running.encode(frame.picture) if frame.picture is not None else (b"", False)
        sound = running.encode_sound(frame.sound)
        work = time.perf_counter() - begun
        self.send(_tick_of(number, running, frame, (picture, key), sound, work))
        if begun - running.reported > REPORT:
            running.reported = begun
            self.send(m.Statistics(number, running.live.statistics()))

    def _handle(self, message: m.ToWorker) -> None:
        call = getattr(message, "call", None)
        try:
            value = _HANDLERS[type(message)](self, message)
        except Exception as error:
            # One session's trouble is not another's: the caller is told, and the process goes on.
            if not isinstance(error, ValueError | TypeError):
                traceback.print_exc()
            if call is not None:
                self.send(m.Reply(call, problem=str(error) or type(error).__name__))
            return
        if call is not None:
            self.send(m.Reply(call, value))

    def open(self, message: m.Open) -> dict[str, Any]:
        """Begins a session; returns what it is like."""
        engine = self._engines[message.avatar]
        live = engine.live(
            rate=message.rate, size=message.size, most=message.queue, room=message.room, **self._shown
        )  # fmt: skip
        running = Running(live, ENCODERS[message.video](message.quality), SOUNDS[message.sound](message.rate))
        with self._changed:
            self._sessions[message.session] = running
        return {"latency": live.latency, "size": list(live.size)}

    def close(self, message: m.Close) -> None:
        """Ends a session."""
        with self._changed:
            running = self._sessions.pop(message.session, None)
            if running is None:
                return
            self._changed.wait_for(lambda: not running.drawing)
        running.live.close()

    def switch(self, message: m.Run) -> None:
        """Lets a session's clock run or stop."""
        if message.session in self._sessions:
            with self._changed:
                self._sessions[message.session].on = message.on
                self._sessions[message.session].began = time.monotonic()
                self._changed.notify_all()

    def sound(self, message: m.Sound) -> None:
        """Queues sound."""
        running = self._sessions.get(message.session)
        if running is not None:
            samples = np.frombuffer(message.samples, "<i2").reshape(-1, message.channels)
            running.received += round(1e6 * len(samples) / message.rate)
            running.live.push((samples.astype(np.int16, copy=False), message.rate))

    def finish(self, message: m.Finish) -> None:
        """Ends an utterance."""
        if message.session in self._sessions:
            self._sessions[message.session].live.finish()

    def trim(self, message: m.Trim) -> None:
        """Drops what has waited for too long."""
        if message.session in self._sessions:
            self._sessions[message.session].live.trim(message.seconds)

    def interrupt(self, message: m.Interrupt) -> dict[str, Any]:
        """Drops all sound; returns where it ended."""
        running = self._sessions[message.session]
        stopped = running.live.interrupt()
        said = {"epoch": stopped.epoch, "position": stopped.position, "dropped": stopped.dropped}
        return {**said, "received": running.received}

    def change(self, message: m.Change) -> None:
        """Replaces a property of a session."""
        setattr(self._sessions[message.session].live, message.what, CHANGES[message.what](message.value))


_HANDLERS: dict[type, Callable[[Worker, Any], Any]] = {
    m.Open: Worker.open, m.Close: Worker.close, m.Run: Worker.switch, m.Sound: Worker.sound,
    m.Finish: Worker.finish, m.Trim: Worker.trim, m.Interrupt: Worker.interrupt, m.Change: Worker.change,
}  # fmt: skip


def _tick_of(
    number: int, running: Running, frame: LiveFrame, picture: tuple[bytes, bool], sound: bytes, work: float
) -> m.Tick:
    flags = m.SPEAKING * frame.speaking + m.KEY * picture[1] + m.ENDED * bool(frame.ended)
    return m.Tick(
        number, frame.epoch, frame.number, flags, frame.position, running.live.queued, running.received, work,
        picture[0], sound, frame.ended,
    )  # fmt: skip


def about(engine: Engine) -> dict[str, Any]:
    """What clients may know of an avatar: no path, no provenance."""
    camera, renderer = engine.avatar.camera, engine.renderer
    return {
        "system": engine.avatar.system,
        "size": [camera.width, camera.height],
        "latency": engine.latency,
        "audio": engine.avatar.frontend.name,
        "edits": {
            "mouth": renderer.motion_codes > 0,
            "upper": renderer.upper_codes > 0,
            "landmarks": renderer.landmark_part is not None,
        },
    }


def main(arguments: list[str]) -> int:
    """The process: NAME=FOLDER for each avatar, behind device, precision and a film as JSON, or null."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the server, which ends us
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not come between messages
    warnings.simplefilter("ignore")
    device, precision, film, *pairs = arguments
    try:
        engines, shown = {}, _shown(json.loads(film))
        for pair in pairs:
            name, _, folder = pair.partition("=")
            engines[name] = Engine.load(Path(folder), device, precision)
            _warm(engines[name], shown)
    except Exception as error:
        out.write(m.packed(m.Failed(str(error))))
        out.flush()
        return 1
    import torch

    cores = torch.get_num_threads()
    # A GPU draws one frame after the other: hands would only wait for each other.
    hands = cores if all(engine.renderer.device.type == "cpu" for engine in engines.values()) else 1
    keep_loaded()
    try:
        Worker(engines, out, hands, cores, shown).run(sys.stdin.buffer)
    except BrokenPipeError:  # the server has gone
        return 0
    return 0


def _shown(film: dict[str, str] | None) -> dict[str, Any]:
    """What `Engine.live` takes of a film (`settings.Film`, as JSON)."""
    if film is None:
        return {}
    footage = footage_of(Dataset.open(film["dataset"]), film["video"])
    return {"into": footage, "region": film["region"]}


def _warm(engine: Engine, shown: Mapping[str, Any]) -> None:
    """What the first frames would wait for: kernels, tables, the portrait of an edited head."""
    now = 0.0
    live = engine.live(rate=16_000, clock=lambda: now, **shown)
    for _ in range(12):
        live.take()
        now += 0.04
    live.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
