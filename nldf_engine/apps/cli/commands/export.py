"""`nldf export`: dataset -> folder of another project."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import Command, Json, UsageError, output, save_results, value


@dataclass(frozen=True)
class Export(Command):
    """Write a dataset as a folder of AD-NeRF or RAD-NeRF.

    Poses, focal length, splits, pictures, label maps and sound go over; what the layout has no place
    for is named. The folder needs no preparation there to be trained on, and `nldf` reads it back as it is.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf export data/speaker --layout adnerf -o AD-NeRF/dataset/speaker",
        "nldf export data/speaker --layout radnerf -o RAD-NeRF/data/speaker",
    )
    reads: ClassVar[tuple[str, ...]] = ("dataset",)
    writes: ClassVar[tuple[str, ...]] = ("folder",)

    dataset: Annotated[Path, Positional, value("DATASET")]
    """folder written by nldf prepare, or of another layout"""
    layout: Annotated[str, value("adnerf|radnerf")]
    """whose layout to write"""
    folder: Annotated[Path, output("DIR")]
    """folder to write"""
    json: Json = None
    """also write what was written here"""

    def run(self) -> int:
        """Writes the folder and prints what is in it, and what was lost."""
        from nldf_engine.datasets import open_dataset
        from nldf_engine.datasets.foreign.write import LAYOUTS, export_layout

        if self.layout not in LAYOUTS:
            raise UsageError(f"--layout is {' or '.join(LAYOUTS)}; it is {self.layout!r}")
        made = export_layout(open_dataset(self.dataset), self.layout, self.folder)
        train, held = made.listed
        print(f"{made.folder}: {made.frames} pictures, {train} training and {held} validation frames listed")
        for lost in made.lost:
            print(f"not in it as it was: {lost}")
        save_results(self.json, {**asdict(made), "folder": str(made.folder)})
        return 0
