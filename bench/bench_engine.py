"""`Engine` end to end on the bundled avatar: frames a second with the time of each stage, and peak memory.

The stages are `Engine.profile`'s, frame by frame, one after the other; where a frame is drawn in one pass,
"network" is all of it. Peak memory is that of a process of its own, which renders and writes the same clip.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.timing import Sizes, kernel_of, quantile, row_of
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.engine import Engine
from nldf_engine.engine.clip import Clip
from nldf_engine.engine.profile import WARM_UP

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
def test_frames(benchmark, record, ceilings, pace, device, tmp_path, size, precision):
    frames, sound = FRAMES[pace.mode], speech(FRAMES[pace.mode] + WARM_UP)
    engine = Engine.load(bundled_avatar(), device.type, precision=precision)
    field = engine.renderer.portrait.head.field
    ceilings.look(device)
    clip = engine.render((sound, RATE), size=size)
    reference = Engine.load(bundled_avatar(), device.type, backend="reference")
    other = reference.render((sound, RATE), size=size)
    assert np.abs(clip.frames[1].astype(int) - other.frames[1]).max() <= 2
    assert clip.frames[1].std() > 5, "the frames don't vary: nothing is being rendered"
    seen = []
    benchmark.pedantic(lambda: seen.append(engine.profile((sound, RATE), frames=frames, size=size)), rounds=1)
    profile = seen[0]
    ceiling = ceilings.best(device)
    case = f"{size} x {size}"
    # Of the head's network alone: rays that miss the head never reach it.
    flops = 2.0 * field.macs * rays_of(reference, other)
    kernel = kernel_of(field, device)
    row = row_of(case, "frame", profile.total, Sizes(1, "frames", flops), device, ceiling, kernel)
    ram, gpu = peak_memory(size, device, frames, tmp_path / "memory.mp4")
    rows = [row | {"peak_ram_bytes": ram or None, "peak_gpu_bytes": gpu or None, "note": engine_note(engine)}]
    spent = {name: times for name, times in profile.stages.items() if sum(times) > 0}
    for name, times in spent.items():
        stage = row_of(case, name, times, Sizes(1, "frames", flops * (name == "network")), device, ceiling)
        share = sum(times) / sum(profile.total)
        rows.append(stage | {"kind": "stage", "share": share, "p50_s": quantile(times, 0.5)})
    assert "network" in spent, "no frame of the profile reached the network"
    record(rows)


def rays_of(engine: Engine, clip: Clip) -> int:
    """How many rays of a frame reach the head's network; of a reference engine, which calls it by itself."""
    counted = 0

    def count(_: object, inputs: tuple) -> None:
        nonlocal counted
        counted += inputs[0].origins.shape[0] * inputs[0].origins.shape[1]

    hook = engine.renderer.portrait.head.field.register_forward_pre_hook(count)
    clip.frames[0]
    hook.remove()
    return counted


def engine_note(engine: Engine) -> str:
    """What was rendered."""
    said = engine.describe()
    return (
        f"bundled {said['system']} avatar, {said['macs_per_ray'] / 1e6:.3f} MMAC a ray, {said['precision']}"
    )
