"""Are two checkouts the same to the bit? Records what `nldf` makes with fixed seeds, and compares records.

    python bench/identity.py record before.json            # with the `nldf` beside this Python
    python bench/identity.py record after.json --nldf ../other/.venv/bin/nldf
    python bench/identity.py compare before.json after.json

It uses the command line alone, so that a record can be made with any version: hashes of a synthetic dataset
and of a prepared and refined one, losses of every preset over 60 steps with their avatars' weights, and the
frames of clips of the bundled avatar. One thread, because sums over threads differ from run to run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# The full-size networks see fewer rays of smaller frames: 60 steps of theirs would take hours.
SMALL = ["--size", "16", "--set", "rays=64"]
PRESETS: dict[str, list[str]] = {
    "nldf-fast": ["--size", "64"],
    "nldf-fast-tiny": [],
    "adnerf": [*SMALL, "--set", "torso_steps=10"],
    "adnerf-small": ["--size", "32", "--set", "torso_steps=20"],
    "adnerf-tiny": ["--set", "torso_steps=20"],
    "nldf-88": ["--size", "16", "--set", "rays=256"],
    "nldf-small": ["--size", "32", "--set", "torso_steps=20"],
    "nldf-tiny": ["--set", "torso_steps=20"],
}
STEPS = 60
CLIPS: dict[str, list[str]] = {
    "plain": [],
    "still-128": ["--poses", "still", "--size", "128"],
    "edited": ["--yaw", "6", "--blink", "natural", "--mouth", "1.2", "--gate", "--background", "navy"],
    "transparent": ["--background", "transparent", "--size", "96"],
}
AVATAR = Path(__file__).resolve().parent.parent / "nldf_engine" / "assets" / "avatar"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def record(nldf: str) -> dict[str, str]:
    """Digests by name: dataset files, losses, weights, clips."""
    found: dict[str, str] = {}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def run(*words: str | Path) -> None:
        print("nldf", *words, file=sys.stderr, flush=True)
        done = subprocess.run([nldf, *map(str, words)], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"nldf {' '.join(map(str, words))}: {done.stderr[-2000:]}")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        run("synthetic", "-o", data, "--seconds", "5", "--size", "64", "--seed", "1")
        for path in sorted(data.iterdir()):
            found[f"synthetic/{path.name}"] = _digest(path)
        run("synthetic", "-o", folder / "v.mp4", "--seconds", "6", "--size", "256", "--seed", "2")
        run("prepare", folder / "v.mp4", "-o", folder / "prepared", "--size", "128")
        for path in ("track.safetensors", "parsing.mkv", "background.png", "audio.wav", "video.mp4"):
            found[f"prepared/{path}"] = _digest(folder / "prepared" / path)
        for preset, options in PRESETS.items():
            train(run, found, folder, data, preset, preset, options)
        taught = ["--teacher", folder / "adnerf-tiny", "--set", "torso_steps=20"]
        train(run, found, folder, data, "nldf-tiny", "nldf-tiny-taught", taught)
        for clip, options in CLIPS.items():
            run("render", AVATAR, data / "audio.wav", "-o", f"{folder / clip}/", *options)
            pictures = sorted((folder / clip).glob("*.png"))
            whole = hashlib.sha256(b"".join(_pixels(path) for path in pictures)).hexdigest()[:16]
            found[f"clip/{clip}"] = f"{len(pictures)} frames {whole}"
    return found


def train(run, found, folder: Path, data: Path, preset: str, name: str, options: list) -> None:
    """One run: its losses and its avatar's weights."""
    run("train", preset, data, "-o", folder / name, "--steps", str(STEPS), *options)
    for part in ("", "torso"):
        checkpoint = folder / f"{name}.training" / part / "checkpoint.safetensors"
        if checkpoint.is_file():
            found[f"losses/{name}{part and '/' + part}"] = _losses(checkpoint)
    found[f"weights/{name}"] = _digest(folder / name / "model.safetensors")
    found[f"track/{name}"] = _digest(folder / name / "track.safetensors")


def _losses(checkpoint: Path) -> str:
    """The history in a checkpoint's header, without what a clock says."""
    with checkpoint.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    history = json.loads(header["__metadata__"]["run"])["history"]
    rows = [{name: row[name] for name in sorted(row) if name != "seconds"} for row in history]
    last = {name: round(value, 6) for name, value in rows[-1].items()}
    return f"{hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]} {json.dumps(last)}"


def _pixels(path: Path) -> bytes:
    """A PNG's pixels: its text chunks name the version that made it."""
    import cv2

    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tobytes()


def compare(before: dict[str, str], after: dict[str, str]) -> int:
    """Prints a line a difference; how many there are."""
    names = sorted({*before, *after})
    differing = [name for name in names if before.get(name) != after.get(name)]
    for name in differing:
        print(f"{name}:\n  {before.get(name)}\n  {after.get(name)}")
    print(f"{len(names) - len(differing)} of {len(names)} records are the same to the bit")
    return len(differing)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("out", type=Path)
    recording.add_argument("--nldf", default=str(Path(sys.executable).with_name("nldf")))
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.command == "record":
        given.out.write_text(json.dumps(record(given.nldf), indent=1) + "\n")
        return 0
    return min(1, compare(*(json.loads(path.read_text()) for path in (given.before, given.after))))


if __name__ == "__main__":
    sys.exit(main())
