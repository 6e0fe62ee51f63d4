"""Avatars side by side: quality on held-out frames, and how fast they render.

    python examples/compare.py data/speaker avatars/adnerf avatars/nldf [--frames N] [--json table.json]

Quality is `nldf evaluate`'s. Speed is of a race: the avatars take turns frame by frame, so that a slow spell
of the machine hits all alike. Radiance fields run once more without the rays and samples that their coarse
pass finds empty ("sparse"), with the PSNR between both pictures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from nldf_engine import Engine
from nldf_engine.data.dataset import Dataset
from nldf_engine.evaluation import EvaluateConfig, evaluate
from nldf_engine.models import RadianceField

QUALITY = ("psnr", "psnr_foreground", "psnr_neck", "psnr_mouth", "ssim", "lmd", "lmd_centred")
RACED_FRAMES = 12


def race(
    engines: dict[str, Engine], data: Dataset, rounds: int
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Seconds of each engine's frames, in turns, and the frames uint8 [N, H, W, 3]."""
    held = data.indices("heldout")
    chosen = held[np.linspace(0, len(held) - 1, min(rounds, len(held))).astype(int)]
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    frames: dict[str, list[np.ndarray]] = {name: [] for name in engines}
    tracked = data.torso_motion()
    for warm, number in enumerate([int(chosen[0]), *map(int, chosen)]):
        for name, engine in engines.items():
            features = data.audio_features(engine.avatar.frontend)[number : number + 1]
            clip = engine.render(
                features, data.poses[number : number + 1], eyes=data.eye_openness[number : number + 1],
                torso=None if tracked is None else tracked[number : number + 1],
            )  # fmt: skip
            start = time.perf_counter()
            frame = clip.frames[0]
            if warm:
                seconds[name].append(time.perf_counter() - start)
                frames[name].append(frame)
    return seconds, {name: np.stack(made) for name, made in frames.items()}


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB between two stacks of frames; 100 at the most."""
    return -10 * float(np.log10(max(1e-10, ((a.astype(float) - b) ** 2).mean() / 255**2)))


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("avatars", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, help="held-out frames to evaluate; all of them by default")
    parser.add_argument("--json", type=Path, help="also write the table here")
    given = parser.parse_args()
    data = Dataset.open(given.dataset)
    engines: dict[str, Engine] = {}
    rows: dict[str, dict[str, float | str | None]] = {}
    for path in given.avatars:
        with tempfile.TemporaryDirectory() as out:
            config = EvaluateConfig(frames=given.frames, pictures=False)
            figures = evaluate(path, given.dataset, out, config)
        engines[path.name] = Engine.load(path)
        torso = engines[path.name].avatar.info["torso"]
        kind = next((name for name in ("field", "layer") if name in torso), "plate")
        rows[path.name] = {"system": figures["system"], "torso": kind, **{k: figures[k] for k in QUALITY}}
        if isinstance(engines[path.name].avatar.portrait.field, RadianceField):
            engines[f"{path.name} sparse"] = Engine.load(path, sparse=True)
            rows[f"{path.name} sparse"] = {"system": figures["system"], "torso": kind}
    seconds, frames = race(engines, data, RACED_FRAMES)
    for name, row in rows.items():
        row["frames_per_second"] = 1 / statistics.median(seconds[name])
        row["rays_per_second"] = (
            row["frames_per_second"] * frames[name][0].shape[0] * frames[name][0].shape[1]
        )
        if name.endswith(" sparse"):
            row["psnr_to_dense"] = distance(frames[name], frames[name.removesuffix(" sparse")])
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    print("| avatar | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, row in rows.items():
        cells = [row.get(key) for key in columns]
        shown = [
            f"{cell:.4g}" if isinstance(cell, float) else "" if cell is None else str(cell) for cell in cells
        ]
        print(f"| {name} | " + " | ".join(shown) + " |")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
