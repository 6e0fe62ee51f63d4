"""Avatars side by side on the same held-out frames: how close they come to them, and how fast.

    python examples/compare.py data/speaker avatars/adnerf avatars/nldf [--frames N] [--out FOLDER]

The frames are spread evenly over the held-out part, and the avatars take turns frame by frame, so that a slow
spell of the machine hits all alike. Radiance fields run once more without the rays and samples that their
coarse pass finds empty ("sparse"), with the PSNR between both pictures. `nldf evaluate` scores whole clips,
with controls for the lips; this is the quick look. Into the folder go table.json and frames.png, a row an
avatar below the real frames.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from nldf_engine import Engine
from nldf_engine.datasets import Dataset, open_dataset
from nldf_engine.evaluation.landmark_detector import detect
from nldf_engine.evaluation.metrics.lips import mouth_distance
from nldf_engine.evaluation.metrics.psnr import psnr
from nldf_engine.evaluation.metrics.regions import neck_band
from nldf_engine.evaluation.metrics.ssim import ssim
from nldf_engine.systems.adnerf.model import RadianceField

SHOWN = 8


def upper_codes(engine: Engine, data: Dataset) -> np.ndarray | None:
    """[T, E] codes of brows, lids and gaze as they were tracked, None for an avatar without."""
    if not engine.upper_codes:
        return None
    return engine.upper(data.landmarks, data.poses, data.eye_openness, data.camera)


def race(
    engines: dict[str, Engine], data: Dataset, chosen: np.ndarray, width: int
) -> dict[str, tuple[np.ndarray, float]]:
    """Each engine's frames uint8 [N, H, W, 3] and the median of its seconds a frame."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    frames: dict[str, list[np.ndarray]] = {name: [] for name in engines}
    # Whole clips, because a frame's sound has neighbours; only the frames that are read are drawn.
    clips = {
        name: engine.render(
            data.audio_features(engine.avatar.frontend), data.poses, size=width,
            eyes=data.eye_openness, torso=data.torso_motion(), upper=upper_codes(engine, data),
        ).frames
        for name, engine in engines.items()
    }  # fmt: skip
    for number in [int(chosen[0]), *map(int, chosen)]:  # the first one twice: it warms up
        for name, clip in clips.items():
            start = time.perf_counter()
            frames[name].append(clip[number])
            seconds[name].append(time.perf_counter() - start)
    return {name: (np.stack(made[1:]), statistics.median(seconds[name][1:])) for name, made in frames.items()}


def find_faces(frames: np.ndarray) -> np.ndarray:
    """[N, 478, 2] landmarks of frames that are too far apart to be tracked: a detector each."""
    return np.concatenate([detect(frame[None])[0] for frame in frames])


def scores(rendered: np.ndarray, real: np.ndarray, labels: np.ndarray, faces: np.ndarray) -> dict[str, float]:
    """PSNR of frame, speaker and neck band, SSIM, and the lips' distance in pixels at 512: means over frames.

    Args:
        rendered, real: uint8 [N, H, W, 3].
        labels: uint8 [N, H, W].
        faces: [N, 478, 2], of the real frames.
    """
    rows = zip(rendered, real, labels, strict=True)
    each = [
        (psnr(a, b), psnr(a, b, label > 0), psnr(a, b, neck_band(label)), ssim(a, b)) for a, b, label in rows
    ]
    names = ("psnr", "psnr_foreground", "psnr_neck", "ssim")
    figures = {
        name: float(np.nanmean(column)) for name, column in zip(names, zip(*each, strict=True), strict=True)
    }
    return {**figures, "lmd": float(np.nanmean(mouth_distance(find_faces(rendered), faces)))}


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("avatars", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=12, help="how many held-out frames")
    parser.add_argument("--out", type=Path, help="folder for table.json and frames.png")
    given = parser.parse_args()
    data = open_dataset(given.dataset)
    held = data.indices("heldout")
    chosen = held[np.linspace(0, len(held) - 1, min(given.frames, len(held))).astype(int)]
    engines: dict[str, Engine] = {}
    for path in given.avatars:
        engines[path.name] = Engine.load(path)
        if isinstance(engines[path.name].avatar.portrait.head.field, RadianceField):
            engines[f"{path.name} sparse"] = Engine.load(path, sparse=True)
    width = min([data.camera.width, *(engine.avatar.camera.width for engine in engines.values())])
    real = np.stack([next(iter(data.read_frames(int(i), int(i) + 1, width))) for i in chosen])
    labels = data.labels(width)[chosen]
    made, faces = race(engines, data, chosen, width), find_faces(real)
    rows: dict[str, dict[str, float | str]] = {}
    for name, (frames, spent) in made.items():
        torso = engines[name].avatar.info["torso"]
        kind = next((kind for kind in ("field", "layer") if kind in torso), "plate")
        row: dict[str, float | str] = {"system": engines[name].avatar.system, "torso": kind}
        row |= scores(frames, real, labels, faces)
        row |= {"frames_per_second": 1 / spent, "rays_per_second": labels[0].size / spent}
        if name.endswith(" sparse"):
            row["psnr_to_dense"] = psnr(
                frames.reshape(-1, width, 3), made[name.removesuffix(" sparse")][0].reshape(-1, width, 3)
            )
        rows[name] = row
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    print("| avatar | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, row in rows.items():
        cells = [row.get(key, "") for key in columns]
        shown = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
        print(f"| {name} | " + " | ".join(shown) + " |")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "table.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        stacks = [real, *(frames for frames, _ in made.values())]
        sheet = np.concatenate([np.concatenate(list(stack[:SHOWN]), 1) for stack in stacks])
        cv2.imwrite(str(given.out / "frames.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
