"""Batches of renders of the bundled avatar: how they are made, run and compared with one process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.scaling.options import Options
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.base.files import make_folder, read_json, sha256
from nldf_engine.datasets.format import write_wav
from nldf_engine.synthetic import synthesise_speech


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
    """Renders the jobs' sounds one after another by `nldf render`; SHA-256 of each video."""
    made = {}
    for job in json.loads(path.read_text(encoding="utf-8")):
        if job["name"] not in names:
            continue
        flags = job["render"]
        out = make_folder(path.parent / "serial") / Path(flags["output"]).name
        if not out.is_file():
            subprocess.run(
                [sys.executable, "-m", "nldf_engine", "render", flags["avatar"], flags["audio"], "-o",
                 str(out), "--size", str(flags["size"]), "--no-provenance"],
                cwd=path.parent, check=True, capture_output=True,
            )  # fmt: skip
        made[job["name"]] = sha256(out)
    return made


def workers(options: Options) -> dict[str, Any]:
    """renders by one and by two processes of one thread: many, and one long one in stretches."""
    found: dict[str, Any] = {}
    many = write_jobs(options.folder / "many", options, options.jobs, options.seconds)
    whole = options.jobs * options.seconds
    long = write_jobs(options.folder / "long", options, 1, whole)
    for name, path, count in (
        ("many", many, 1), ("many", many, 2), ("long", long, 1), ("long", long, 2),
    ):  # fmt: skip
        clean(path)
        stretch = ("--stretch", str(whole / 4) if count > 1 and name == "long" else "0")
        began = time.monotonic()
        code = start_batch(path, "--workers", str(count), *stretch).wait()
        report = read_json(path.with_suffix(".batch") / "report.json")
        tasks = [*report["jobs"].values(), *report["stretches"].values()]
        found[f"{name}, {count} at a time"] = {
            "exit": code, "seconds": time.monotonic() - began,
            "frames_per_second": 25 * whole / report["seconds"],
            "seconds_a_task": sum(one["seconds"] for one in tasks) / len(tasks),
        }  # fmt: skip
        if name == "long":
            found[f"{name}, {count} at a time"]["sha256"] = sha256(path.parent / "out" / "00.mp4")[:12]
    return found
