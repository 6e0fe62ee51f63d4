"""`Engine` end to end on the bundled avatar: frames a second with the time of each stage, and peak memory.

The stages are told apart from outside, by when the field is entered and left within a frame. The audio's
share is that of a clip (its features and codes, made once) over its frames. Peak memory is that of a
process of its own, which renders and writes the same clip.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.timing import Sizes, quantile, row_of, synchronise
from nldf_engine.apps.bundled import bundled_avatar
from nldf_engine.base.video import VideoWriter
from nldf_engine.engine import Engine

RATE = 16000
FRAMES = {"quick": 8, "normal": 40, "full": 120}
MEMORY = """
import sys
import numpy as np, torch
from nldf_engine.engine import Engine
avatar, size, device, out, samples = sys.argv[1:]
sound = np.random.default_rng(0).normal(0, 0.05, int(samples)).astype(np.float32)
Engine.load(avatar, device).render((sound, 16000), size=int(size)).save(out)
lines = open("/proc/self/status").read().splitlines() if sys.platform == "linux" else []
print(next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0))
print(torch.cuda.max_memory_allocated() if device == "cuda" else 0)
"""


def speech(frames: int) -> np.ndarray:
    """A hoarse hum whose pitch and loudness wander: sound enough for a front-end."""
    t = np.arange(frames * RATE // 25) / RATE
    hum = np.sin(2 * np.pi * 140 * t + 3 * np.sin(2 * np.pi * 3 * t)) * (
        0.6 + 0.4 * np.sin(2 * np.pi * 4 * t)
    )
    return (0.2 * hum + 0.02 * np.random.default_rng(0).normal(size=len(t))).astype(np.float32)


class Marks:
    """When a field was first entered and last left within a frame."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.entered, self.left = device, 0.0, 0.0

    def now(self) -> float:
        synchronise(self.device)
        return time.perf_counter()

    @contextmanager
    def on(self, field: torch.nn.Module) -> Iterator[None]:
        def enter(*_: object) -> None:
            self.entered = self.entered or self.now()

        def leave(*_: object) -> None:
            self.left = self.now()

        hooks = (field.register_forward_pre_hook(enter), field.register_forward_hook(leave))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def peak_memory(size: int, device: torch.device, frames: int, out: Path) -> tuple[int, int]:
    """Bytes of RAM and of GPU memory that a process of its own takes to render and write a clip."""
    words = (str(bundled_avatar()), str(size), device.type, str(out), str(frames * RATE // 25))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *words], capture_output=True, text=True, check=True, timeout=300
    )
    ram, gpu = map(int, done.stdout.split()[-2:])
    return ram, gpu


@pytest.mark.parametrize(
    "size", [pytest.param(128, marks=pytest.mark.thorough), 256, pytest.param(512, marks=pytest.mark.full)]
)
def test_frames(benchmark, record, ceilings, pace, device, tmp_path, size):
    frames, sound = FRAMES[pace.mode], speech(FRAMES[pace.mode])
    engine = Engine.load(bundled_avatar(), device.type)
    field = engine.avatar.portrait.field
    ceilings.look(device)
    engine.render((sound, RATE), size=size).frames[0]  # the front-end's tables, packed weights, buffers
    marks = Marks(device)
    audio_start = marks.now()
    clip = engine.render((sound, RATE), size=size)
    audio = (marks.now() - audio_start) / frames
    reference = Engine.load(bundled_avatar(), device.type, backend="reference").render(
        (sound, RATE), size=size
    )
    assert np.abs(clip.frames[1].astype(int) - reference.frames[1]).max() <= 2
    assert clip.frames[1].std() > 5, "the frames don't vary: nothing is being rendered"
    stages: dict[str, list[float]] = {
        "rays and region": [], "network": [], "composite": [], "encode": []
    }  # fmt: skip
    whole: list[float] = []
    with marks.on(field), VideoWriter(tmp_path / "clip.mp4", size, size, fps=25) as writer:

        def one_frame(number: int) -> None:
            marks.entered = marks.left = 0.0
            begin = marks.now()
            picture = clip.frames[number]
            made = marks.now()
            writer.write(picture)
            end = marks.now()
            entered = marks.entered or made
            left = marks.left or entered
            for name, spent in zip(
                stages, (entered - begin, left - entered, made - left, end - made), strict=True
            ):
                stages[name].append(spent)
            whole.append(audio + end - begin)

        numbers = iter(range(frames))
        benchmark.pedantic(lambda: one_frame(next(numbers)), rounds=1 if benchmark.disabled else frames)
    ceiling = ceilings.best(device)
    case = f"{size} x {size}"
    # Of the network alone: rays that miss the head never reach it.
    rays = rays_of(engine, clip, size)
    flops = 2.0 * field.macs * rays
    row = row_of(case, "frame", whole, Sizes(1, "frames", flops), device, ceiling)
    spent = sum(map(sum, stages.values())) + audio * frames
    ram, gpu = peak_memory(size, device, frames, tmp_path / "memory.mp4")
    rows = [row | {"peak_ram_bytes": ram or None, "peak_gpu_bytes": gpu or None, "note": engine_note(engine)}]
    for name, times in ({"audio": [audio] * len(whole)} | stages).items():
        stage = row_of(case, name, times, Sizes(1, "frames", flops * (name == "network")), device, ceiling)
        rows.append(stage | {"kind": "stage", "share": sum(times) / spent, "p50_s": quantile(times, 0.5)})
    record(rows)


def rays_of(engine: Engine, clip: object, size: int) -> int:
    """How many rays of a frame reach the network."""
    counted = 0

    def count(_: object, inputs: tuple) -> None:
        nonlocal counted
        counted += inputs[0].origins.shape[0] * inputs[0].origins.shape[1]

    hook = engine.avatar.portrait.field.register_forward_pre_hook(count)
    clip.frames[0]
    hook.remove()
    return counted


def engine_note(engine: Engine) -> str:
    """What was rendered."""
    told = engine.describe()
    return (
        f"bundled {told['system']} avatar, {told['macs_per_ray'] / 1e6:.3f} MMAC a ray, {told['precision']}"
    )
