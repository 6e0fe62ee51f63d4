"""A process that renders, in this one: several hands at once, and turns of sessions that are late."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from films import HEIGHT, WIDTH, film_of, seen_by
from nldf_engine.apps.server import messages as m
from nldf_engine.apps.server.encoders import Pcm, Raw
from nldf_engine.apps.server.settings import Film
from nldf_engine.apps.server.worker import BEHIND, Running, Worker, _shown
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine

RATE, SIZE, TICKS = 16_000, 32, 24
FROM: msgspec.msgpack.Decoder[m.FromWorker] = msgspec.msgpack.Decoder(m.FromWorker)


class Out(io.RawIOBase):
    """Where a worker's messages go; `ticks` of each session, and what is `over`."""

    def __init__(self) -> None:
        self.ticks: dict[int, list[m.Tick]] = {}
        self.over: list[m.Over] = []

    def write(self, content: Any) -> int:
        message = FROM.decode(content[m.LENGTH.size :])
        if isinstance(message, m.Tick):
            self.ticks.setdefault(message.session, []).append(message)
        elif isinstance(message, m.Over):
            self.over.append(message)
        return len(content)


def test_hands_draw_what_render_draws(avatars: dict[str, Path]) -> None:
    """Four sessions of two avatars by three hands, each saying a sound of its own: every picture is that of
    `Engine.render` of the very sound."""
    engines = {name: Engine.load(folder, device="cpu") for name, folder in avatars.items()}
    names = [list(avatars)[number % 2] for number in range(4)]
    read, write = os.pipe()
    out = Out()
    worker = Worker(engines, out, hands=3, cores=3)  # type: ignore[arg-type]
    thread = threading.Thread(target=worker.run, args=(os.fdopen(read, "rb"),))
    thread.start()
    with os.fdopen(write, "wb", buffering=0) as into:
        for number, name in enumerate(names):
            into.write(m.packed(m.Open(number, number, name, RATE, SIZE, "raw", 85, "pcm", False, 60.0)))
            random = np.random.default_rng(number)
            sound = 6000 * random.normal(size=RATE) * np.sin(np.arange(RATE) / (900 + 300 * number))
            into.write(
                m.packed(m.Sound(number, RATE, 1, sound.clip(-32_768, 32_767).astype("<i2").tobytes()))
            )
            into.write(m.packed(m.Run(number, True)))
        end = time.monotonic() + 60
        while any(len(out.ticks.get(number, ())) < TICKS for number in range(4)):
            assert time.monotonic() < end and thread.is_alive()
            time.sleep(0.02)
    thread.join(20)
    assert not thread.is_alive()
    for number, name in enumerate(names):
        ticks = out.ticks[number]
        assert [tick.number for tick in ticks] == list(range(len(ticks)))
        heard = (
            np.concatenate([np.frombuffer(tick.sound, "<i2") for tick in ticks]).astype(np.float32) / 32_768
        )
        want = engines[name].render((heard, RATE), size=SIZE).frames
        pictures = [(tick.number, Raw.decode(tick.picture)) for tick in ticks[: TICKS - 12] if tick.picture]
        assert len(pictures) >= 3
        assert all(np.abs(seen.astype(int) - want[at]).max() <= 2 for at, seen in pictures)


class Late:
    """A session whose next frame was due at some time."""

    def __init__(self, due: float, number: int = 5) -> None:
        self.due, self.number = due, number


def test_late_sessions_take_turns() -> None:
    """The first that is due is first, also one that just began; then who was drawn longest ago."""

    def order(**every: tuple[Late, float]) -> list[str]:
        made = {
            name: Running(live, Raw(85), Pcm(RATE), began=began)  # type: ignore[arg-type]
            for name, (live, began) in every.items()
        }
        return sorted(made, key=lambda name: made[name].urgency(100.0))

    assert order(a=(Late(100.02), 1.0), b=(Late(100.01), 2.0)) == ["b", "a"]
    late = 100 - BEHIND
    assert order(a=(Late(late - 9), 3.0), b=(Late(late - 1), 2.0), c=(Late(0, -1), 1.0)) == ["c", "b", "a"]


def test_its_sessions_are_pasted_into_a_film(
    avatars: dict[str, Path], synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """At the film's size, whatever width a client asked for; its reading in advance ends with it."""
    film, dataset = film_of(synthetic_dataset, tmp_path)
    told = json.loads(json.dumps(Film(film, dataset, "head").to_json()))
    assert _shown(None) == {} and _shown(told)["region"] == "head"
    engine = Engine.load(avatars["ada"], device="cpu")
    shown = {**_shown(told), "into": seen_by(engine.avatar.camera, film, dataset)}
    worker = Worker({"ada": engine}, Out(), shown=shown)  # type: ignore[arg-type]
    said = worker.open(m.Open(0, 0, "ada", RATE, SIZE, "raw", 85, "pcm", False, 60.0))
    assert said["size"] == [WIDTH, HEIGHT]
    frame = worker._sessions[0].live.take()
    assert frame is not None and frame.picture is not None and frame.picture.shape == (HEIGHT, WIDTH, 3)
    ahead = [thread for thread in threading.enumerate() if thread.name == "nldf-ahead"]
    assert ahead
    worker.close(m.Close(0))
    for thread in ahead:
        thread.join(20)
    assert not any(thread.is_alive() for thread in ahead)


def test_a_film_that_breaks_off_ends_its_session_alone(avatars: dict[str, Path]) -> None:
    """Its client is told; the process and its other sessions go on."""
    read, write = os.pipe()
    out = Out()
    engine = Engine.load(avatars["ada"], device="cpu")
    worker = Worker({"ada": engine}, out)  # type: ignore[arg-type]
    thread = threading.Thread(target=worker.run, args=(os.fdopen(read, "rb"),))
    thread.start()

    def broken() -> None:
        raise FileProblem(Path("film.mp4"), "it has 3 frames, and frame 4 is wanted", "record it again")

    with os.fdopen(write, "wb", buffering=0) as into:
        for number in range(2):
            into.write(m.packed(m.Open(number, number, "ada", RATE, SIZE, "raw", 85, "pcm", False, 60.0)))
        end = time.monotonic() + 60
        while len(worker._sessions) < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        worker._sessions[0].live.take = broken  # type: ignore[assignment, method-assign]
        for number in range(2):
            into.write(m.packed(m.Run(number, True)))
        while not out.over or len(out.ticks.get(1, ())) < 5:
            assert time.monotonic() < end and thread.is_alive()
            time.sleep(0.01)
        assert [message.session for message in out.over] == [0] and "can't be read" in out.over[0].reason
        into.write(m.packed(m.Close(0)))
        seen = len(out.ticks[1])
        while len(out.ticks[1]) < seen + 3:
            assert time.monotonic() < end
            time.sleep(0.01)
    thread.join(20)
    assert not thread.is_alive() and 0 not in out.ticks
