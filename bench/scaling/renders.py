"""Batches of renders of the bundled avatar: how they are made, run and compared with one process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.scaling.options import Options
from nldf_engine.apps.cli import main as cli
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.base.files import make_folder, read_json, sha256
from nldf_engine.datasets.format import write_wav
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.synthetic import synthesise_speech
from nldf_engine.systems.common.torso import TorsoPlate
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig

# Of the long render: seconds of speech, and width of the pictures.
DEEP_SECONDS, DEEP_SIZE = 1.6, 128


def write_jobs(folder: Path, options: Options, jobs: int, seconds: float) -> Path:
    """A job file of so many renders of different sentences, with what they need beside it."""
    make_folder(folder)
    if not (folder / "avatar").is_dir():
        shutil.copytree(bundled_avatar(), folder / "avatar")
    listed = []
    for number in range(jobs):
        sound = folder / f"speech-{number:02d}.wav"
        if not sound.is_file():
            write_wav(sound, synthesise_speech(None, seconds, number).samples)
        flags = {"avatar": "avatar", "audio": sound.name, "output": f"out/{number:02d}.mp4",
                 "size": options.size, "no-provenance": True}  # fmt: skip
        listed.append({"name": f"job{number:02d}", "render": flags})
    path = folder / "jobs.json"
    path.write_text(json.dumps(listed, indent=1), encoding="utf-8")
    return path


def start_batch(path: Path, *flags: str) -> subprocess.Popen[str]:
    """Starts `nldf batch` with one thread a job."""
    command = [sys.executable, "-m", "nldf_engine", "batch", str(path), "--threads", "1", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def clean(path: Path) -> None:
    """Removes what an earlier batch has left."""
    shutil.rmtree(path.with_suffix(".batch"), ignore_errors=True)
    shutil.rmtree(path.parent / "out", ignore_errors=True)


def serial(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Renders the jobs' sounds one after another in this process; SHA-256 of each video."""
    made, place = {}, path.parent
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the jobs have it
    for job in json.loads(path.read_text(encoding="utf-8")):
        flags = job["render"]
        out = make_folder(place / "serial") / Path(flags["output"]).name
        if job["name"] in names and not out.is_file():
            given = ["render", str(place / flags["avatar"]), str(place / flags["audio"]), "-o", str(out)]
            if cli.main([*given, "--size", str(flags["size"]), "--no-provenance"]):
                raise RuntimeError(f"{out} can't be rendered")
        made[job["name"]] = sha256(out)
    torch.set_num_threads(threads)
    return made


def write_deep_avatar(folder: Path) -> None:
    """The paper's network of 88 layers, untrained, in the place of the bundled avatar's.

    It is as fast as a trained one. Drawing takes longer by far than encoding: what stretches are made for.
    """
    torch.manual_seed(0)
    bundled = Avatar.load(bundled_avatar())
    field = LightField(LightFieldConfig(bundled.portrait.head.field.config.bounds))
    region = bundled.portrait.head.region
    torso = TorsoPlate(bundled.camera.width, bundled.camera.height)
    made = replace(
        bundled, portrait=Portrait(RayHead(field, region), torso), frontend=FrontendConfig(),
        torso_motion=None, upper=None,
    )  # fmt: skip
    made.save(folder)


def workers(options: Options) -> dict[str, Any]:
    """many renders by one and by two processes of one thread."""
    path = write_jobs(options.folder / "many", options, options.jobs, options.seconds)
    return {f"{count} at a time": measured(path, count, 0.0) for count in (1, 2)}


def stretches(options: Options) -> dict[str, Any]:
    """a render of 88 layers by one process, and in four stretches by two, of one thread each."""
    folder = make_folder(options.folder / "long")
    if not (folder / "avatar").is_dir():
        write_deep_avatar(folder / "avatar")
    path = write_jobs(folder, replace(options, size=DEEP_SIZE), 1, DEEP_SECONDS)
    return {
        f"{count} at a time": measured(path, count, DEEP_SECONDS / 4 if count > 1 else 0.0)
        for count in (1, 2)
    }


def measured(path: Path, count: int, stretch: float) -> dict[str, Any]:
    """Runs a batch anew, so many jobs at a time; its figures."""
    clean(path)
    code = start_batch(path, "--workers", str(count), "--stretch", str(stretch)).wait()
    report = read_json(path.with_suffix(".batch") / "report.json")
    tasks = [*report["jobs"].values(), *report["stretches"].values()]
    frames = sum(one["results"]["frames"] for one in report["jobs"].values())
    return {
        "exit": code,
        "seconds": report["seconds"],
        "frames_per_second": frames / report["seconds"],
        "tasks": len(tasks),
        "seconds_a_task": sum(one["seconds"] for one in tasks) / len(tasks),
        "sha256": sha256(path.parent / "out" / "00.mp4")[:12],
    }
