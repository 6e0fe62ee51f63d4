"""What of an avatar's error comes from where: frames it learned from against frames it never saw.

    python examples/gap.py avatars/me data/speaker [--frames N] [--out FOLDER]

The same avatar draws frames of the training part and of the held-out part, conditioned on less from row to
row: first all that was tracked in the frame itself (mouth, brows, torso, pose), then the mouth by the sound
alone, then the torso by the head's pose, then no brows. What the first row loses from one part to the other
is the picture's own gap: poses, expressions and light that were not there. What the next ones lose is the
price of predicting from sound. Into the folder go gap.json and gap.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from nldf_engine import Engine
from nldf_engine.base.progress import Bar
from nldf_engine.datasets import Dataset, open_dataset
from nldf_engine.evaluation.metrics.psnr import psnr_of_error, squared_error
from nldf_engine.evaluation.metrics.regions import region_masks

PARTS = {"training part": "train", "held out": "heldout"}
REGIONS = ("frame", "foreground", "head", "mouth")
SHOWN = 6


def tracked_mouth(engine: Engine, data: Dataset) -> np.ndarray:
    """[T, K] codes of the mouth as it was tracked in the video itself."""
    basis = engine.renderer.motion_basis
    assert basis is not None  # engine.motion_codes says so
    given = (torch.from_numpy(np.asarray(x, np.float32)) for x in (data.landmarks, data.poses))
    landmarks, poses = (x.to(engine.device) for x in given)
    with torch.no_grad():
        return basis.encode(basis.place(landmarks, poses, data.camera)).nan_to_num(0).cpu().numpy()


def predicted_torso(engine: Engine, data: Dataset) -> np.ndarray:
    """[T, 2, 3]: as predicted from the head's poses alone."""
    track = engine.open_track(np.asarray(data.poses, np.float32))
    return track(torch.arange(len(data.poses))).torso.numpy()


def rows_of(engine: Engine, data: Dataset, width: int) -> dict[str, Any]:
    """Lazy frames of the whole video, `width` pixels wide, by what the avatar is conditioned on."""
    features, eyes = data.audio_features(engine.avatar.frontend), data.eye_openness
    given: dict[str, Any] = {"eyes": eyes, "torso": data.torso_motion()}
    if engine.upper_codes:
        given["upper"] = engine.upper(data.landmarks, data.poses, eyes, data.camera)
    rows = {}
    if engine.motion_codes:
        given["motion"] = tracked_mouth(engine, data)
        rows["all as tracked"] = dict(given)
        del given["motion"]
    rows["mouth by sound"] = dict(given)
    if given["torso"] is not None:
        given["torso"] = predicted_torso(engine, data)
        rows["and torso by pose"] = dict(given)
    if engine.upper_codes:
        given["upper"] = np.zeros((len(features), engine.upper_codes), np.float32)
        rows["and no brows"] = dict(given)
    return {name: engine.render(features, data.poses, size=width, **row).frames for name, row in rows.items()}


def figures(
    frames: Any, chosen: np.ndarray, data: Dataset, width: int, bar: Bar
) -> tuple[dict[str, float], list[np.ndarray]]:
    """Mean PSNR by region over the chosen frames, and the first ones as they were drawn."""
    labels = data.labels(width)
    scale = width / data.camera.width
    found: dict[str, list[float]] = {name: [] for name in REGIONS}
    drawn: list[np.ndarray] = []
    for number in map(int, chosen):
        real = next(iter(data.read_frames(number, number + 1, width)))
        made = frames[number]
        masks = region_masks(labels[number], data.landmarks[number] * scale, labels[number].shape)
        error = squared_error(made, real)
        for name in REGIONS:
            found[name].append(psnr_of_error(error, None if name == "frame" else masks[name]))
        if len(drawn) < SHOWN:
            drawn.append(np.concatenate([real, made], 0))
        bar.step()
    return {name: float(np.nanmean(values)) for name, values in found.items()}, drawn


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--frames", type=int, default=48, help="how many frames of each part")
    parser.add_argument("--out", type=Path, help="folder for gap.json and gap.png")
    given = parser.parse_args()
    data, engine = open_dataset(given.dataset), Engine.load(given.avatar)
    width = min(engine.avatar.camera.width, data.camera.width)
    rows, parts, sheet = rows_of(engine, data, width), {}, []
    for part, split in PARTS.items():
        every = data.indices(split)
        parts[part] = every[np.linspace(0, len(every) - 1, min(given.frames, len(every))).astype(int)]
    table: dict[str, dict[str, dict[str, float]]] = {}
    with Bar("drawing", len(rows) * sum(map(len, parts.values())), "frame") as bar:
        for name, frames in rows.items():
            table[name] = {}
            for part, chosen in parts.items():
                table[name][part], drawn = figures(frames, chosen, data, width, bar)
                if part == "held out":
                    sheet.append(np.concatenate(drawn, 1))
    print("| conditioned on | part | " + " | ".join(REGIONS) + " |\n" + "|---" * (2 + len(REGIONS)) + "|")
    for name, by_part in table.items():
        for part, row in by_part.items():
            print(f"| {name} | {part} | " + " | ".join(f"{row[region]:.2f}" for region in REGIONS) + " |")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "gap.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
        picture = np.concatenate([sheet[0][:width], *(row[width:] for row in sheet)])
        cv2.imwrite(str(given.out / "gap.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
