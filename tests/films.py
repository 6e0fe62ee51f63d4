"""A film that a synthetic dataset's speaker is seen in, as if the dataset had been cut out of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.footage import footage_of
from nldf_engine.geometry.cameras import Camera
from nldf_engine.media.video import VideoWriter
from nldf_engine.rendering.footage import Footage

CUT = (30, 10, 64)
WIDTH, HEIGHT = 160, 90


def film_of(dataset: Dataset, folder: Path) -> tuple[Path, Path]:
    """The film, and a dataset's folder that says where in it its frames are.

    Args:
        dataset: of 64 pixels.
        folder: where both are written.
    """
    film, cut = folder / "film.mp4", folder / "cut"
    x, y, side = CUT
    wide = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    with VideoWriter(film, WIDTH, HEIGHT, crf=6) as writer:
        for frame in dataset.frames(side):
            wide[y : y + side, x : x + side] = frame
            writer.write(wide)
    shutil.copytree(dataset.path, cut)
    info = json.loads((cut / "dataset.json").read_text("utf-8"))
    info["source"] = {"crop": list(CUT)}
    (cut / "dataset.json").write_text(json.dumps(info), "utf-8")
    return film, cut


def seen_by(camera: Camera, film: Path, dataset: Path) -> Footage:
    """The film as footage, as if an avatar's camera had seen it."""
    made = footage_of(Dataset.open(dataset), film)
    return dataclasses.replace(made, camera=camera.scaled(made.camera.width))
