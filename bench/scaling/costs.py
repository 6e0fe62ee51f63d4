"""What a batch and a shared step cost beside the work itself: numbers to reckon a large cluster by."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.scaling.options import Options
from bench.scaling.renders import write_jobs
from nldf_engine.apps.batch.attempt import Outcome
from nldf_engine.apps.batch.jobs import read_jobs
from nldf_engine.apps.batch.run import run_tasks
from nldf_engine.apps.batch.tasks import Task, plan
from nldf_engine.audio import FrontendConfig
from nldf_engine.base.files import make_folder
from nldf_engine.engine import Engine
from nldf_engine.engine.parts import Part, save_part
from nldf_engine.media.video import VideoWriter, frames_at
from nldf_engine.rendering.fields import Bounds
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.registry import build_head
from nldf_engine.training import find_preset
from nldf_engine.training.scene import RayScene

JOBS = 200
PRESETS = ("nldf-88", "nldf-fast", "adnerf")


class _Nobody:
    """Workers whose tasks are done as soon as they start."""

    def __init__(self) -> None:
        self._ended: list[Outcome] = []

    def __enter__(self) -> _Nobody:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, task: Task) -> None:
        """See `Workers`."""
        self._ended.append(Outcome(task.name, "done"))

    def ended(self, seconds: float) -> list[Outcome]:
        """See `Workers`."""
        ended, self._ended = self._ended, []
        return ended


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, which other programs do not disturb, and what came of it."""
    began = time.process_time()
    made = work()
    return time.process_time() - began, made


def costs(options: Options) -> dict[str, Any]:
    """CPU time of checking, keeping record and starting; bytes of a stretch; gradients of a step."""
    folder = make_folder(options.folder / "costs")
    path = write_jobs(folder, options, 1, options.seconds)
    text = path.read_text(encoding="utf-8").strip()[1:-1]
    many = folder / "many.json"
    rows = (
        text.replace("job00", f"job{n:04d}").replace("out/00.mp4", f"out/{n:04d}.mp4") for n in range(JOBS)
    )
    many.write_text("[" + ",".join(rows) + "]", encoding="utf-8")
    read_jobs(path)  # what is imported once
    checked, jobs = _timed(lambda: read_jobs(many))
    tasks = plan(jobs, folder / "many.batch", None)
    kept, _ = _timed(lambda: run_tasks(tasks, _Nobody(), folder / "many.batch"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", "import nldf_engine.engine, nldf_engine.apps.batch.work"], check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "a job": {"check_ms": 1e3 * checked / JOBS, "record_ms": 1e3 * kept / JOBS, "start_s": start},
        **{f"a frame of {size} pixels": _frame(folder, options, size) for size in (256, 512)},
        **{f"a step of {name}": _gradient(name) for name in PRESETS},
        "a step of nldf-fast, drawn by every process": _drawing(options.folder),
    }


def _frame(folder: Path, options: Options, size: int) -> dict[str, Any]:
    """CPU milliseconds of a frame, and bytes of it in a stretch."""
    engine = Engine.load(folder / "avatar", precision="fp32")
    clip = engine.render(folder / "speech-00.wav", size=size)
    drawn, frames = _timed(lambda: clip.frames[:50])
    stretch = folder / f"{size}.mkv"
    both, count = _timed(lambda: save_part(clip, Part(0, 1, 60.0), stretch))
    read, _ = _timed(lambda: sum(1 for _ in frames_at(stretch, fps=None)))

    def encode() -> None:
        with VideoWriter(folder / "x.mp4", size, size) as writer:
            for frame in frames:
                writer.write(frame)

    encoded, _ = _timed(encode)
    return {
        "draw_ms": 1e3 * drawn / len(frames), "encode_ms": 1e3 * encoded / len(frames),
        "keep_ms": 1e3 * (both / count - drawn / len(frames)), "read_ms": 1e3 * read / count,
        "kept_kB": stretch.stat().st_size / count / 1e3,
    }  # fmt: skip


def _gradient(name: str) -> dict[str, Any]:
    preset = find_preset(name)
    driving = preset.recipe.driving
    conditions = ConditionConfig(motion=driving.motion_codes, upper=driving.upper_codes)
    head = build_head(preset.system, preset.config(Bounds(0.5, 0.9), conditions))
    numbers = sum(parameter.numel() for parameter in head.parameters())
    return {"parameters": numbers, "gradient_MB": 4e-6 * numbers, "rays": preset.recipe.sampling.rays}


def _drawing(folder: Path) -> dict[str, Any]:
    """CPU milliseconds in which each process draws the pixels of all."""
    speaker = folder / "speaker"
    if not speaker.is_dir():
        make_synthetic_dataset(speaker, SyntheticConfig(6.0, 64, 1, audio_frontend="mel"))
    from nldf_engine.datasets import open_dataset

    sampling = find_preset("nldf-fast").recipe.sampling
    scene = RayScene(open_dataset(speaker), 64, FrontendConfig(), torch.device("cpu"), True)
    generator = torch.Generator().manual_seed(0)
    frames = scene.fit[torch.randint(len(scene.fit), (sampling.frames,), generator=generator)]
    count = sampling.rays // sampling.frames
    scene.draw(frames, count, sampling, generator)
    spent, _ = _timed(lambda: [scene.draw(frames, count, sampling, generator) for _ in range(50)])
    return {"rays": sampling.rays, "draw_ms": 1e3 * spent / 50}
