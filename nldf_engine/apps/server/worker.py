"""A process that renders: its sessions in the order in which their frames are due.

Messages come through stdin and go out through stdout; where stdin ends, so does the process. Weights are
mapped from the avatars' files, so that the workers' pages of them are the same memory; everything else of a
session is its own.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nldf_engine.apps.server import messages as m
from nldf_engine.apps.server.edits import CHANGES
from nldf_engine.apps.server.encoders import ENCODERS, Encoder
from nldf_engine.engine import Engine, LiveFrame, LiveSession

REPORT = 1.0  # seconds between two reports of a session's counters
WAIT = 0.5  # seconds that an idle worker waits for messages


@dataclass
class Running:
    """A session of this worker.

    Args:
        live: the session.
        encode: makes bytes of its pictures.
        on: whether its clock runs.
        received: microseconds of sound that came so far.
        reported: when its counters were reported.
    """

    live: LiveSession
    encode: Encoder
    on: bool = False
    received: int = 0
    reported: float = 0.0


class Worker:
    """Renders all sessions that it is given, one frame at a time.

    Args:
        engines: by the avatars' names.
        out: where messages go.
    """

    def __init__(self, engines: dict[str, Engine], out: BinaryIO) -> None:
        self._engines, self._out = engines, out
        self._sessions: dict[int, Running] = {}
        self._inbox: queue.SimpleQueue[m.ToWorker | None] = queue.SimpleQueue()

    def send(self, message: m.Message) -> None:
        """Hands a message to the server."""
        self._out.write(m.packed(message))
        self._out.flush()

    def run(self, stream: BinaryIO) -> None:
        """Works until `stream`, where messages come from, ends."""
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        self.send(m.Welcome({name: about(engine) for name, engine in self._engines.items()}))
        while True:
            due = self._next()
            wait = WAIT if due is None else max(0.0, due[1].live.wait)
            try:
                message = self._inbox.get(timeout=wait) if wait else self._inbox.get_nowait()
            except queue.Empty:
                if due is not None and due[1].live.wait <= 0:
                    self._tick(*due)
                continue
            if message is None:
                return
            self._handle(message)

    def _read(self, stream: BinaryIO) -> None:
        try:
            while (message := m.read_to_worker(stream)) is not None:
                self._inbox.put(message)
        finally:
            self._inbox.put(None)

    def _next(self) -> tuple[int, Running] | None:
        """The session whose frame is due first."""
        running = [(number, item) for number, item in self._sessions.items() if item.on]
        return min(running, key=lambda pair: pair[1].live.due) if running else None

    def _tick(self, number: int, running: Running) -> None:
        begun = time.perf_counter()
        frame = running.live.take()
        if frame is None:
            return
        picture, key = running.encode(frame.picture) if frame.picture is not None else (b"", False)
        work = time.perf_counter() - begun
        self.send(_tick_of(number, running, frame, picture, key, work))
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
            rate=message.rate, size=message.size, most=message.queue, room=message.room
        )  # fmt: skip
        self._sessions[message.session] = Running(live, ENCODERS[message.video](message.quality))
        camera = engine.renderer.camera(message.size)
        return {"latency": live.latency, "size": [camera.width, camera.height]}

    def close(self, message: m.Close) -> None:
        """Ends a session."""
        self._sessions.pop(message.session, None)

    def switch(self, message: m.Run) -> None:
        """Lets a session's clock run or stop."""
        if message.session in self._sessions:
            self._sessions[message.session].on = message.on

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
    number: int, running: Running, frame: LiveFrame, picture: bytes, key: bool, work: float
) -> m.Tick:
    flags = m.SPEAKING * frame.speaking + m.KEY * key + m.ENDED * bool(frame.ended)
    # What came as 16-bit PCM at the same rate goes out as it came.
    sound = np.rint(frame.sound * 32_768).clip(-32_768, 32_767).astype("<i2").tobytes()
    return m.Tick(
        number, frame.epoch, frame.number, flags, frame.position, running.live.queued, running.received, work,
        picture, sound, frame.ended,
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
    """The process: NAME=FOLDER for each avatar behind device and precision."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the server, which ends us
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not come between messages
    warnings.simplefilter("ignore")
    device, precision, *pairs = arguments
    try:
        engines = {}
        for pair in pairs:
            name, _, folder = pair.partition("=")
            engines[name] = Engine.load(Path(folder), device, precision)
            _warm(engines[name])
    except Exception as error:
        out.write(m.packed(m.Failed(str(error))))
        out.flush()
        return 1
    try:
        Worker(engines, out).run(sys.stdin.buffer)
    except BrokenPipeError:  # the server has gone
        return 0
    return 0


def _warm(engine: Engine) -> None:
    """What the first frames would wait for: kernels, tables, the portrait of an edited head."""
    now = 0.0
    live = engine.live(rate=16_000, clock=lambda: now)
    for _ in range(12):
        live.take()
        now += 0.04


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
