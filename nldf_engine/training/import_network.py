"""Makes an avatar of a network that another program trained; region, torso and motion come from a dataset.

A system whose authors' program left checkpoints names a module (`systems.registry.System.importer`) with an
`IMPORTER`: it reads them beside the folder that they were trained on.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.version import __version__
from nldf_engine.datasets import open_dataset
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.foreign.dataset import ForeignDataset
from nldf_engine.rendering.fields import RayField
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.torso_field import TorsoField
from nldf_engine.systems.registry import systems
from nldf_engine.training.outcome import consent_for, own_motion, upper_codes
from nldf_engine.training.scene import RayScene
from nldf_engine.training.targets import TorsoTarget


@dataclass(frozen=True)
class Imported:
    """What became of an authors' checkpoints.

    Args:
        field: the head's network.
        frontend: what made its audio features.
        origin: where it comes from, JSON for the provenance.
        notes: sentences for whoever imports it.
        torso: see `import_network`.
    """

    field: RayField
    frontend: FrontendConfig
    origin: Mapping[str, Any]
    notes: tuple[str, ...]
    torso: TorsoField | None = None


@dataclass(frozen=True)
class Importer:
    """How the checkpoints of a system's authors are imported.

    Args:
        title: their program, as they call it.
        files: what each file is; those in brackets may be left out, from the last on.
        take: reads these files, with the folder that they were trained on.
    """

    title: str
    files: tuple[str, ...]
    take: Callable[[Sequence[Path], ForeignDataset], Imported]

    @property
    def counts(self) -> range:
        """How many files it takes."""
        return range(sum(not name.startswith("[") for name in self.files), len(self.files) + 1)


def importable() -> list[str]:
    """The names of the systems that import networks."""
    return [name for name, system in systems().items() if system.importer is not None]


def find_importer(name: str) -> Importer:
    """The importer of a system.

    Raises:
        ValueError: it has none, or there is no such system.
    """
    if name not in importable():
        raise ValueError(f"system: expected one of {', '.join(importable())}, got {name!r}")
    importer: Importer = importlib.import_module(str(systems()[name].importer)).IMPORTER
    return importer


def import_avatar(
    importer: Importer, files: Sequence[Path], folder: Path, size: int | None = None
) -> tuple[Avatar, Imported]:
    """An avatar of an authors' checkpoints, and what became of them.

    Args:
        importer: reads them.
        files: as many as it takes.
        folder: the one that they were trained on.
        size: width of the avatar's pictures, pixels; None for the folder's.

    Raises:
        FileProblem: a file or the folder can't be used.
    """
    dataset = open_dataset(folder)
    if not isinstance(dataset, ForeignDataset):
        raise FileProblem(
            dataset.path, f"{importer.title} can't have trained on it",
            f"give the folder that {importer.title} trained on",
        )  # fmt: skip
    made = importer.take(files, dataset)
    origin = {"from": importer.title, **made.origin}
    size = size or dataset.camera.width
    return import_network(made.field, dataset, made.frontend, size, origin, made.torso), made


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
