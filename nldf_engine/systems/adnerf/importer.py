"""`nldf import adnerf`: AD-NeRF's checkpoints and the folder that it was trained on, as an avatar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets.foreign.dataset import ForeignDataset
from nldf_engine.nn.checkpoints import described
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.adnerf.released import import_body, import_head, read_checkpoint
from nldf_engine.systems.common.torso_field import TorsoField, TorsoFieldConfig
from nldf_engine.training.import_network import Imported, Importer


def take(files: Sequence[Path], dataset: ForeignDataset) -> Imported:
    """A head's checkpoint, and a body's where there is one.

    Raises:
        FileProblem: a checkpoint can't be used.
    """
    head = read_checkpoint(files[0])
    body = read_checkpoint(files[1]) if len(files) == 2 else None
    bounds = Bounds(dataset.info.near, dataset.info.far, radius=1.0)
    field = import_head(head, bounds, with_body=body is not None)
    attention = head.smoothed or body is not None
    origin = {"head": described(head.path, head.step), "attention": attention}
    notes = [f"the head of {head.path.name} (step {head.step}): coarse, fine, audio nets"]
    if not attention:
        notes.append("its attention over neighbours was not trained yet: each frame uses its own audio alone")
    torso = None
    if body is not None:
        torso = TorsoField(import_body(body, field), TorsoFieldConfig(in_front=True))
        origin["body"] = described(body.path, body.step)
        notes.append(
            f"{body.path.name}: the torso (step {body.step}): coarse, fine; the head's code and pose drive "
            "it, as in AD-NeRF, which never evaluates the audio net in that file"
        )
    frontend = FrontendConfig("precomputed", dim=field.config.conditions.audio_dim)
    return Imported(field, frontend, origin, tuple(notes), torso)


IMPORTER = Importer("AD-NeRF", ("HEAD.tar", "[BODY.tar]"), take)
