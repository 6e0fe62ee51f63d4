"""What a frame costs the host: operations, allocations and calls are counted, pictures stay the same to the
bit."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity
from torch.utils._python_dispatch import TorchDispatchMode

from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.engine import Engine, onepass, renderer, ring
from nldf_engine.engine.clip import Frames
from nldf_engine.engine.edits import Edit
from nldf_engine.engine.edits.head import HeadEdit
from nldf_engine.rendering.portrait import Portrait

SIZE, COUNT = 48, 23


class Operations(TorchDispatchMode):
    """Counts torch's operations, views included."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[str(operation)] += 1
        return operation(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(bundled_avatar(), device="cpu")


def features(engine: Engine, count: int = COUNT) -> np.ndarray:
    """Random features of the avatar's front-end."""
    shape = engine.avatar.portrait.head.config.conditions
    made = np.random.default_rng(0).standard_normal((count, shape.audio_window, shape.audio_dim))
    return (0.5 * made).astype(np.float32)


@pytest.fixture
def frames(engine: Engine) -> Frames:
    return engine.render(features(engine), size=SIZE).frames


def begun(frames: Frames) -> Iterator[np.ndarray]:
    """The frames behind the first one, which prepares them."""
    every = frames.reused(5)
    next(every)
    return every


def test_a_frame_is_no_operation(frames):
    """Behind the first frame no frame calls an operation of torch, not even a view."""
    every = begun(frames)
    with Operations() as counted:
        assert sum(1 for _ in every) == COUNT - 1
    assert not counted.seen
    with Operations() as counted:  # the counter counts: by layers there are operations in every frame
        frames.renderer._layered(frames.scene, 3, None, None)
    assert sum(counted.seen.values()) > 20


def test_a_frame_allocates_nothing(frames):
    """Behind the first frame no memory is allocated for a tensor or a picture."""
    every = begun(frames)
    places = set()
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        for frame in every:
            places.add(frame.ctypes.data)
    assert not [event for event in seen.events() if event.name == "[memory]"]
    assert 5 <= len(places) < COUNT
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        frames.renderer._layered(frames.scene, 3, None, None)
    assert [event for event in seen.events() if event.name == "[memory]"]


@pytest.mark.parametrize("buffers", [1, 2, 8, 9])
@pytest.mark.parametrize("pixels", [1, 3 * SIZE * SIZE, 1 << 20])
def test_a_frame_stays_as_long_as_is_said(frames, monkeypatch, buffers, pixels):
    """However many are drawn at once, a frame is overwritten `buffers` frames later, not before."""
    monkeypatch.setattr(renderer, "PIXELS_AT_ONCE", pixels)
    want, held = list(frames), []
    for number, frame in enumerate(frames.reused(buffers)):
        held = [*held, (number, frame)][-buffers:]
        assert all(np.array_equal(kept, want[k]) for k, kept in held)
    assert number == COUNT - 1


def test_a_frame_is_few_calls(frames):
    """What the host does for a frame is a few dozens of calls, of Python's functions and of C's."""
    every, calls = begun(frames), Counter()

    def count(frame: Any, event: str, argument: Any) -> None:
        calls[event] += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        drawn = sum(1 for _ in every)
    finally:
        sys.setprofile(None)
    assert (calls["call"] + calls["c_call"]) / drawn < 40


def test_a_clip_is_prepared_once(frames, monkeypatch):
    """Whether and how a clip's frames are drawn in one pass is decided once a stretch, not once a frame."""
    monkeypatch.setattr(onepass, "STRETCH", 10)
    monkeypatch.setattr(renderer, "STRETCH", 10)
    seen, original = [], Portrait.frames

    def prepare(self: Portrait, views: Any, codes: Any, background: Any) -> Any:
        seen.append(len(codes))
        return original(self, views, codes, background)

    monkeypatch.setattr(Portrait, "frames", prepare)
    assert len(list(frames.reused(3))) == COUNT and seen == [10, 10, 3]


@pytest.mark.parametrize("how", ["usual", "edited", "coloured"])
def test_frames_are_those_drawn_alone(engine, how, monkeypatch):
    """Frames in a ring, by number and across stretches are, to the bit, those of `Portrait.picture` alone."""
    monkeypatch.setattr(onepass, "STRETCH", 7)
    monkeypatch.setattr(renderer, "STRETCH", 7)
    settings: dict[str, Any] = {
        "usual": {}, "edited": {"edit": Edit(head=HeadEdit(yaw=4.0))},
        "coloured": {"background": "navy", "edges": "fast"},
    }[how]  # fmt: skip
    frames = engine.render(features(engine), size=SIZE, **settings).frames
    scene = frames.scene
    alone = [
        scene.portrait.picture(scene.view(k), scene.codes[k], scene.background).numpy() for k in range(COUNT)
    ]
    for made, want in zip(frames.reused(3), alone, strict=True):
        np.testing.assert_array_equal(made, want)
    for number in (22, 3, 15):
        np.testing.assert_array_equal(frames[number], alone[number])


def test_a_session_draws_the_same_frames(engine):
    """A session's frames go the same way, prepared as they become ready, and are a clip's; in int16, whose
    rounding shows the last bit of a code, but for one level here and there."""
    sound = (0.05 * np.random.default_rng(1).standard_normal(16000)).astype(np.float32)
    session, made = engine.session(size=SIZE), []
    for first in range(0, len(sound), 1000):
        made += [frame.picture for frame in session.push(sound[first : first + 1000])]
    made += [frame.picture for frame in session.finish()]
    clip = engine.render((sound, 16000), size=SIZE)
    assert len(made) == len(clip) and clip.frames.scene.one_pass is not None
    apart = np.stack([np.abs(a.astype(int) - b) for a, b in zip(made, clip.frames, strict=True)])
    assert apart.max() <= (engine.precision == "int16") and (apart > 0).mean() < 1e-3


def test_outputs_are_checked(frames):
    """An array that does not fit a frame is refused by name."""
    with pytest.raises(ValueError, match=r"out: expected contiguous uint8 \[48, 48, 3\], got uint8 \[48, 40"):
        frames.renderer.frame(frames.scene, 0, np.empty((48, 40, 3), np.uint8))
    with pytest.raises(ValueError, match=r"out: expected contiguous"):
        frames.renderer.frame(frames.scene, 0, np.empty((48, 96, 3), np.uint8)[:, ::2])


class Log:
    """Stands in for torch.cuda: streams and events that write down what happens to them, in order.

    A copy is carried out when its event is waited for, so that memory which is used again too early shows.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.pending: list[tuple[Any, Any]] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log = self

        class Stream:
            def __init__(self, device: Any = None) -> None:
                pass

            def wait_event(self, event: Any) -> None:
                event.settle()

            def __enter__(self) -> None:
                log.said.append("copy")

            def __exit__(self, *_: object) -> None:
                pass

        class Event:
            copy: Any = None

            def record(self, stream: Any) -> None:
                if log.pending:
                    self.copy = log.pending.pop()

            def settle(self) -> None:
                if self.copy is not None:
                    self.copy[0].copy_(self.copy[1])
                    self.copy = None

            def synchronize(self) -> None:
                log.said.append("wait")
                self.settle()

        real, drawing = torch.empty, Stream()
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: drawing)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
        monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, **k: real(*a, **k))
        monkeypatch.setattr(torch.Tensor, "copy_", self.copier(torch.Tensor.copy_))

    def copier(self, real: Any) -> Any:
        def copy(to: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
            if non_blocking:
                self.pending.append((to, source))
                return to
            return real(to, source)

        return copy


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (8, 3), (9, 5), (37, 5), (64, 20)])
def test_a_ring_hands_out_every_frame(monkeypatch, count, kept):
    """Every frame comes once, in order, and the last `kept` ones stay whole; the next launch is under way
    while one is read, and the host waits once a launch."""
    log = Log()
    log.install(monkeypatch)
    made = ring.Ring((4, 6, 3), torch.device("cpu"), kept)
    launches: list[tuple[int, int]] = []

    def draw(first: int, many: int, address: int) -> None:
        log.said.append("draw")
        launches.append((first, many))
        (slot,) = [slot for slot in made._slots if slot.address == address]
        for k in range(many):
            slot.made[k] = first + k

    held: list[np.ndarray] = []
    for number, frame in enumerate(made.frames(draw, count)):
        held = [*held, frame][-kept:]
        for age, old in enumerate(reversed(held)):
            assert (old == number - age).all()
    assert number == count - 1
    assert launches == [
        (first, min(ring.LAUNCHED, count - first)) for first in range(0, count, ring.LAUNCHED)
    ]
    turns = len(launches)
    assert log.said.count("wait") == turns
    # Before the host waits for one launch it has begun the next.
    for turn in range(turns):
        before = log.said[: [i for i, what in enumerate(log.said) if what == "wait"][turn]]
        assert before.count("draw") == min(turn + 2, turns)


def test_a_gpu_draws_by_the_ring(engine, frames, monkeypatch):
    """Where the fused kernel draws on a GPU a clip's frames come through the ring; here the CPU stands in for
    it."""
    Log().install(monkeypatch)
    monkeypatch.setattr(onepass.OnePass, "device_type", "cuda")
    want = [frames.scene.portrait.picture(
        frames.scene.view(k), frames.scene.codes[k], frames.scene.background
    ).numpy() for k in range(COUNT)]  # fmt: skip
    assert all(np.array_equal(a, b) for a, b in zip(frames.reused(4), want, strict=True))
