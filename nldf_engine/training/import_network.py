"""Makes an avatar of a network that another program trained; region, torso and motion come from a dataset."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.base.version import __version__
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.rendering.fields import RayField
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.torso_field import TorsoField
from nldf_engine.training.outcome import consent_for, own_motion, upper_codes
from nldf_engine.training.scene import RayScene
from nldf_engine.training.targets import TorsoTarget


def import_network(
    field: RayField, dataset: Dataset, frontend: FrontendConfig, size: int, origin: Mapping[str, Any],
    torso: TorsoField | None = None,
) -> Avatar:  # fmt: skip
    """An avatar of `field`, ready to render, and to be distilled into students on the same dataset.

    Args:
        field: the network.
        dataset: the dataset that it was trained on.
        frontend: what made its audio features.
        size: width of the avatar's pictures, pixels.
        origin: where the network comes from, for the provenance.
        torso: a torso field, trained in the view of the dataset's first training frame; None takes the
            dataset's torso plate.

    Raises:
        FileProblem: the dataset has too few frames, or lacks the features.
    """
    scene = RayScene(dataset, size, frontend, torch.device("cpu"))
    portrait = Portrait(RayHead(field, scene.region), scene.torso)
    if torso is not None:
        torso.place(scene.camera, scene.poses[dataset.info.splits["train"][0]], scene.torso)
        portrait.torso = torso.eval()
        TorsoTarget(portrait, scene).mark_region()
    provenance = {
        "package": __version__, "torch": torch.__version__, "python": platform.python_version(),
        "dataset": dataset.hash(), "source": dataset.info.source, "imported": dict(origin),
    }  # fmt: skip
    return Avatar(
        portrait, scene.camera, frontend, dataset.background(size), provenance=provenance,
        consent=consent_for(dataset, None), **own_motion(scene, upper_codes(portrait)),
    )  # fmt: skip
