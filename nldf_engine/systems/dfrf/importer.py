"""`nldf import dfrf`: a checkpoint of DFRF and the folder of a speaker, as an avatar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.foreign.dataset import ForeignDataset
from nldf_engine.nn.checkpoints import described
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.dfrf.references import References
from nldf_engine.systems.dfrf.released import LISTED, NOTICE, ROWS, SIDE, import_field, read_checkpoint
from nldf_engine.training.import_network import Imported, Importer

TRAINED_ON = "give the folder that DFRF was trained on, with pictures of that size"


def take(files: Sequence[Path], dataset: ForeignDataset) -> Imported:
    """A checkpoint, with the references that DFRF's program renders with.

    Raises:
        FileProblem: the checkpoint can't be used, or the folder has pictures of another size, or too few.
    """
    if dataset.info.size != (SIDE, SIDE):
        width, height = dataset.info.size
        raise FileProblem(dataset.path, f"its pictures are {width} x {height}; {NOTICE}", TRAINED_ON)
    head = read_checkpoint(files[0])
    frames = listed_frames(dataset)
    field = import_field(
        head, references_of(dataset, frames), Bounds(dataset.info.near, dataset.info.far, radius=1.0)
    )
    numbers = (frames + dataset.first).tolist()
    origin = {
        "head": described(head.path, head.step), "attention": head.smoothed, "references": numbers
    }  # fmt: skip
    notes = [
        f"{head.path.name} (step {head.step}): coarse, fine, extractor, warp, fusion, audio nets",
        f"its references are the pictures {', '.join(map(str, numbers))}, as DFRF's program chooses them",
        NOTICE,
        "its slots start at one draw of their noise, and torso and background are the folder's plate: DFRF's "
        "program draws noise for every sample, and shows each frame's own torso",
    ]
    if not head.smoothed:
        notes.append("its attention over neighbours was not trained yet: each frame uses its own audio alone")
    return Imported(field, FrontendConfig("precomputed", dim=ROWS), origin, tuple(notes))


def listed_frames(dataset: ForeignDataset) -> np.ndarray:
    """[4] numbers of the frames that DFRF's program takes for references, out of the listed training frames.

    Raises:
        FileProblem: fewer are listed.
    """
    found = dataset.found
    listed = found.ids[~found.held] - dataset.first
    if len(listed) <= max(LISTED):
        what = f"it lists {len(listed)} training frames, and DFRF's references are its numbers " + ", ".join(
            map(str, LISTED)
        )
        raise FileProblem(dataset.path, what, "give the folder that DFRF was trained on")
    return listed[list(LISTED)]


def references_of(dataset: ForeignDataset, frames: np.ndarray) -> References:
    """Frames [N] of the folder as references: the person before the clean background, and a camera whose
    centre is the picture's.

    Raises:
        FileProblem: a picture is missing or can't be read.
    """
    pictures = torch.from_numpy(dataset.composed(frames.tolist()))
    focal, centre = dataset.camera.fx / SIDE, 0.5 + dataset.found.kind.half_pixel / SIDE
    view = torch.tensor([[focal, focal, centre, centre]]).repeat(len(frames), 1)
    return References(pictures, torch.from_numpy(dataset.poses[frames]).float(), view)


IMPORTER = Importer("DFRF", ("HEAD.tar",), take)
